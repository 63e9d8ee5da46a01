-- One row per task event that nobody has withdrawn
with
withdrawn as (
    select
        target_type,
        target
    from retractions
)

select
    task.event_id,
    task.recorded_at,
    task.schema_version,
    task.source,
    task.batch,
    task.task_id,
    task.language,
    task.description,
    task.starter_code,
    task.tests,
    task.entry_point,
    task.answer,
    task.split,
    task.extra
from events.tasks as task
anti join withdrawn as by_event on by_event.target_type = 'event' and task.event_id = by_event.target
anti join withdrawn as by_task on by_task.target_type = 'task' and task.task_id = by_task.target
anti join withdrawn as by_source on by_source.target_type = 'source' and task.source.file = by_source.target
