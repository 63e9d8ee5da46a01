-- One row per event that may not be trained on because eval tasks are in it: it overlaps some, or it is of a task that
-- does, or that is one
with
overlapping as (
    select
        event_id,
        run_id,
        task_id,
        overlap,
        spans
    from contamination_checks
    where label = 'overlap'
),

tainted as (
    select
        task_id,
        1.0 as overlap
    from eval_tasks
    union all
    select
        task_id,
        overlap
    from overlapping
    where run_id is null and task_id is not null
),

found as (
    select
        event_id,
        overlap,
        spans
    from overlapping
    union all
    select
        evidence.event_id,
        tainted.overlap,
        null as spans
    from evidence
    inner join tainted on evidence.task_id = tainted.task_id
    union all
    select
        task.event_id,
        tainted.overlap,
        null as spans
    from tasks as task
    inner join tainted on task.task_id = tainted.task_id
)

select
    event_id,
    max(overlap) as overlap,
    max(spans) as spans
from found
group by event_id
