-- One row per evidence event that nobody has withdrawn
with
withdrawn as (
    select
        target_type,
        target
    from retractions
)

select
    event.event_id,
    event.recorded_at,
    event.schema_version,
    event.source,
    event.batch,
    event.run_id,
    event.task_id,
    event.kind,
    event.role,
    event.model,
    event.stream,
    event.prompt,
    event.messages,
    event.text,
    event.source_files,
    event.extra
from events.evidence as event
anti join withdrawn as by_event on by_event.target_type = 'event' and event.event_id = by_event.target
anti join withdrawn as by_run on by_run.target_type = 'run' and event.run_id = by_run.target
anti join withdrawn as by_task on by_task.target_type = 'task' and event.task_id = by_task.target
anti join withdrawn as by_source on by_source.target_type = 'source' and event.source.file = by_source.target
