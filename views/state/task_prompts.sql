-- One row per task that says what is asked: the newest event's description, then its starter code
with
told as (
    select
        task_id,
        case when strip(description) <> '' then description end as description,
        case when strip(starter_code) <> '' then starter_code end as starter_code,
        row_number() over (partition by task_id order by recorded_at desc nulls last, event_id desc) as recency
    from tasks
)

select
    task_id,
    concat_ws(chr(10) || chr(10), description, starter_code) as prompt
from told
where
    recency = 1
    and (description is not null or starter_code is not null)
