-- One row per task that the gate against contamination bars from training: it is an eval task or overlaps one, or it
-- has not been compared with them
with
newest as (
    select
        event_id,
        task_id,
        row_number() over (partition by task_id order by recorded_at desc nulls last, event_id desc) as recency
    from tasks
)

select
    task.task_id,
    case when contaminated.event_id is not null then 'contaminated' else 'contamination_unchecked' end as errors
from newest as task
inner join quality_policy as rules on rules.contamination = (task.recency = 1)
left join contaminated on task.event_id = contaminated.event_id
left join contamination_checks as compared on task.event_id = compared.event_id
where rules.contamination and (contaminated.event_id is not null or compared.event_id is null)
