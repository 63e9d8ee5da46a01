-- One row per score that nobody has withdrawn, of whatever version
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
    score.event_id,
    score.recorded_at,
    score.schema_version,
    score.source,
    score.batch,
    score.run_id,
    score.task_id,
    score.scorer,
    score.scorer_version,
    score.category,
    score.score,
    score.sub_scores,
    score.reasons,
    score.actor,
    score.extra
from events.scores as score
anti join withdrawn_events on score.event_id = withdrawn_events.target
anti join withdrawn_runs on score.run_id = withdrawn_runs.target
anti join withdrawn_tasks on score.task_id = withdrawn_tasks.target
anti join withdrawn_sources on score.source.file = withdrawn_sources.target
