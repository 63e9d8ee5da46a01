-- One row per registered eval task: the newest event of a task whose split is one of those that the policy names
with
told as (
    select
        event_id,
        recorded_at,
        task_id,
        language,
        description,
        starter_code,
        tests,
        answer,
        split,
        row_number() over (partition by task_id order by recorded_at desc nulls last, event_id desc) as recency
    from tasks
)

select
    told.event_id,
    told.recorded_at,
    told.task_id,
    told.language,
    told.description,
    told.starter_code,
    told.tests,
    told.answer,
    told.split
from told
inner join eval_splits on told.split = eval_splits.split
where told.recency = 1
