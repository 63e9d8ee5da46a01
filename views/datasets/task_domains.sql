-- One row per task that says what domain it is of: the newest event's `extra.domain`
with
told as (
    select
        task_id,
        case when json_valid(extra) then nullif(strip(json_extract_string(extra, '$.domain')), '') end as of_domain,
        row_number() over (partition by task_id order by recorded_at desc nulls last, event_id desc) as recency
    from tasks
)

select
    task_id,
    of_domain
from told
where recency = 1 and of_domain is not null
