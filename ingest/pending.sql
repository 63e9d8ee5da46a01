-- One row per run whose evidence this version of this scorer has not judged yet, with the task it belongs to.
-- What a score was made from is in its source's sha256, so changed evidence, or a changed task where the scorer looks
-- at it, is judged again. Withdrawn scores count as told: the same version would only say the same again.
with
told as (
    select score.source.sha256 as basis
    from events.scores as score
    inner join asked on score.scorer = asked.scorer and score.scorer_version = asked.version
    where score.source.sha256 is not null
),

newest_tasks as (
    select
        task_id,
        event_id,
        row_number() over (partition by task_id order by recorded_at desc nulls last, event_id desc) as recency
    from tasks
),

counted as (
    select
        evidence.run_id,
        evidence.task_id,
        evidence.event_id,
        newest_task.event_id as task_event_id
    from evidence
    cross join asked
    anti join superseded_evidence on evidence.event_id = superseded_evidence.event_id
    left join newest_tasks as newest_task
        on evidence.task_id = newest_task.task_id and newest_task.recency = 1 and asked.uses_task
)

select
    counted.run_id,
    counted.task_id,
    counted.event_id,
    counted.task_event_id
from counted
anti join told on sha256(concat_ws(' ', counted.event_id, counted.task_event_id)) = told.basis
