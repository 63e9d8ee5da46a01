-- One row per task event that nobody has withdrawn
with
withdrawn_events as (
    select target
    from retractions
    where target_type = 'event'
),

withdrawn_tasks as (
    select target
    from retractions
    where target_type = 'task'
),

withdrawn_sources as (
    select target
    from retractions
    where target_type = 'source'
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
anti join withdrawn_events on task.event_id = withdrawn_events.target
anti join withdrawn_tasks on task.task_id = withdrawn_tasks.target
anti join withdrawn_sources on task.source.file = withdrawn_sources.target
