-- One row per prompt event that nobody has withdrawn
with
withdrawn as (
    select
        target_type,
        target
    from retractions
)

select
    prompt.event_id,
    prompt.recorded_at,
    prompt.schema_version,
    prompt.source,
    prompt.batch,
    prompt.prompt_id,
    prompt.text,
    prompt.messages,
    prompt.domain,
    prompt.language,
    prompt.split,
    prompt.pool,
    prompt.extra
from events.prompts as prompt
anti join withdrawn as by_event on by_event.target_type = 'event' and prompt.event_id = by_event.target
anti join withdrawn as by_source on by_source.target_type = 'source' and prompt.source.file = by_source.target
