-- One row per score that nobody has withdrawn, of whatever version
with
withdrawn as (
    select
        target_type,
        target
    from retractions
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
anti join withdrawn as by_event on by_event.target_type = 'event' and score.event_id = by_event.target
anti join withdrawn as by_run on by_run.target_type = 'run' and score.run_id = by_run.target
anti join withdrawn as by_task on by_task.target_type = 'task' and score.task_id = by_task.target
anti join withdrawn as by_source on by_source.target_type = 'source' and score.source.file = by_source.target
