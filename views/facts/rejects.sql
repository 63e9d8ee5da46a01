-- One row per input that could not become an event, and that nobody has withdrawn
with
withdrawn_events as (
    select target
    from retractions
    where target_type = 'event'
),

withdrawn_sources as (
    select target
    from retractions
    where target_type = 'source'
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
anti join withdrawn_events on reject.event_id = withdrawn_events.target
anti join withdrawn_sources on reject.source.file = withdrawn_sources.target
