-- One row per event of `looked_at`, in the order of time and id, with all of its texts
with
texts as (
    select
        event_id,
        run_id,
        task_id,
        prompt,
        text,  -- noqa: RF04
        messages,
        extra,
        null as description,
        null as starter_code,
        null as tests,
        null as answer,
        null as section
    from evidence
    union all
    select
        event_id,
        null as run_id,
        task_id,
        null as prompt,
        null as text,  -- noqa: RF04
        null as messages,
        extra,
        description,
        starter_code,
        tests,
        answer,
        null as section
    from tasks
    union all
    select
        event_id,
        null as run_id,
        null as task_id,
        null as prompt,
        text,  -- noqa: RF04
        messages,
        extra,
        null as description,
        null as starter_code,
        null as tests,
        null as answer,
        null as section
    from prompts
    union all
    select
        event_id,
        null as run_id,
        null as task_id,
        null as prompt,
        null as text,  -- noqa: RF04
        null as messages,
        extra,
        null as description,
        null as starter_code,
        null as tests,
        null as answer,
        content as section
    from replay
)

select
    looked_at.kind,
    looked_at.basis,
    texts.event_id,
    texts.run_id,
    texts.task_id,
    texts.prompt,
    texts.text,
    texts.messages,
    texts.extra,
    texts.description,
    texts.starter_code,
    texts.tests,
    texts.answer,
    texts.section,
    told_task.prompt as asked
from looked_at
inner join texts on looked_at.event_id = texts.event_id
left join task_prompts as told_task on looked_at.kind = 'evidence' and texts.task_id = told_task.task_id
order by texts.event_id
