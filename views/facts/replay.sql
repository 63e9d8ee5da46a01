-- One row per sighting of a section that nobody has withdrawn
with
withdrawn as (
    select
        target_type,
        target
    from retractions
)

select
    sighting.event_id,
    sighting.recorded_at,
    sighting.schema_version,
    sighting.source,
    sighting.batch,
    sighting.section_id,
    sighting.section_type,
    sighting.content,
    sighting.content_bytes,
    sighting.document,
    sighting.training_run,
    sighting.weight,
    sighting.auto_mined,
    sighting.judge_name,
    sighting.judge_score_chosen,
    sighting.judge_score_rejected,
    sighting.mined_at,
    sighting.mined_run_id,
    sighting.extra
from events.replay as sighting
anti join withdrawn as by_event on by_event.target_type = 'event' and sighting.event_id = by_event.target
anti join withdrawn as by_source on by_source.target_type = 'source' and sighting.source.file = by_source.target
