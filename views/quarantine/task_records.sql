-- One row per task that a dataset of tasks considers: its newest event, and the faults that bar it from every dataset.
-- Faults are reasons in the order in which they count, joined by commas; '' is none. The prompt is the description and
-- then the starter code, or the starter code alone where that says the description itself.
with
newest as (
    select
        event_id,
        recorded_at,
        source,
        task_id,
        language,
        description,
        starter_code,
        tests,
        entry_point,
        answer,
        split,
        extra,
        row_number() over (partition by task_id order by recorded_at desc nulls last, event_id desc) as recency
    from tasks
)

select
    'task' as record_type,
    task.task_id as record_id,
    null as run_id,
    task.task_id,
    null as category,
    task.event_id,
    task.source,
    task.recorded_at,
    task.language,
    coalesce(task.description, '') as description,
    coalesce(task.starter_code, '') as starter_code,
    coalesce(task.tests, '') as tests,
    coalesce(task.entry_point, '') as entry_point,
    coalesce(task.answer, '') as answer,
    task.split,
    case
        when
            contains(
                regexp_replace(task.starter_code, '\s+', ' ', 'g'), regexp_replace(task.description, '\s+', ' ', 'g')
            )
            then task.starter_code
        else asked.prompt
    end as prompt,
    registered.task_id is not null as is_eval,
    concat_ws(
        ',',
        case
            when coalesce(task.source.file, '') = '' or coalesce(task.source.sha256, '') = '' then 'missing_provenance'
        end,
        case when asked.prompt is null then 'empty_content' end
    ) as faults
from newest as task
left join task_prompts as asked on task.task_id = asked.task_id
left join eval_tasks as registered on task.task_id = registered.task_id
where task.recency = 1
