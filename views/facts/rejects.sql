-- One row per input that could not become an event, and that nobody has withdrawn
with
withdrawn as (
    select
        target_type,
        target
    from retractions
)

select
    reject.event_id,
    reject.recorded_at,
    reject.schema_version,
    reject.source,
    reject.batch,
    reject.kind,
    reject.reader,
    reject.reason,
    reject.errors,
    reject.raw,
    reject.raw_encoding,
    reject.extra
from events.rejects as reject
anti join withdrawn as by_event on by_event.target_type = 'event' and reject.event_id = by_event.target
anti join withdrawn as by_source on by_source.target_type = 'source' and reject.source.file = by_source.target
