-- One row per evidence event that nobody has withdrawn
with
withdrawn_events as (
    select target
    from retractions
    where target_type = 'event'
),

withdrawn_runs as (
    select target
    from retractions
    where target_type = 'run'
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
anti join withdrawn_events on event.event_id = withdrawn_events.target
anti join withdrawn_runs on event.run_id = withdrawn_runs.target
anti join withdrawn_tasks on event.task_id = withdrawn_tasks.target
anti join withdrawn_sources on event.source.file = withdrawn_sources.target
