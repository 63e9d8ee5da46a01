-- One row per evidence event: what was asked and what was answered. What is blank counts as absent. `own_prompt` is
-- null where the evidence does not say what was asked; `task_line` then stands in where the task does not say either.
with
stripped as (
    select
        *,
        strip(text) as stripped_text,
        strip(reply) as stripped_reply
    from chats
)

select
    event_id,
    recorded_at,
    source,
    run_id,
    task_id,
    kind,
    role,
    model,
    stream,
    source_files,
    messages,
    tools,
    is_chat,
    extra,
    case when strip(prompt) <> '' then prompt when strip(request) <> '' then request end as own_prompt,
    concat('Task: ', task_id, ' · file=' || list_first(source_files)) as task_line,
    case when stripped_text <> '' then text else coalesce(reply, '') end as response,
    coalesce(nullif(stripped_text, ''), stripped_reply, '') as answer
from stripped
