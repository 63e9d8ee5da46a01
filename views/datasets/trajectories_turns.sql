-- One row per message of a trajectory, with what the checks need to know of it; `place` counts from 1. A `stretch` is a
-- message and the tool results that follow it. What is not as it must be is null or false.
with
conversations as (
    select
        task_id,
        event_id,
        case when json_valid(messages) then json_extract(messages, '$[*]') end as turns
    from evidence
    where kind = 'trajectory'
),

turns as (
    select
        task_id,
        event_id,
        unnest(turns) as turn,
        generate_subscripts(turns, 1) as place
    from conversations
),

typed as (
    select
        task_id,
        event_id,
        turn,
        place,
        case when json_type(turn, '$.role') = 'VARCHAR' then json_extract_string(turn, '$.role') end as role,
        coalesce(json_type(turn, '$.content'), 'NULL') as content,
        coalesce(json_type(turn, '$.tool_calls'), 'NULL') as tool_calls,
        coalesce(json_type(turn, '$.tool_call_id'), 'NULL') as tool_call_id
    from turns
)

select
    task_id,
    event_id,
    turn,
    place,
    role,
    coalesce(
        role in ('system', 'developer', 'user', 'assistant', 'tool', 'function')
        and content in ('VARCHAR', 'ARRAY', 'NULL')
        and (role <> 'assistant' or tool_calls in ('ARRAY', 'NULL'))
        and (
            role <> 'assistant'
            or (
                coalesce(json_type(turn, '$.thinking'), 'NULL') in ('VARCHAR', 'NULL')
                and coalesce(json_type(turn, '$.reasoning_content'), 'NULL') in ('VARCHAR', 'NULL')
                and coalesce(json_type(turn, '$.reasoning'), 'NULL') in ('VARCHAR', 'NULL')
            )
        ),
        false
    ) as is_message,
    coalesce(
        content <> 'ARRAY'
        or len(
            list_filter(
                json_extract(turn, '$.content[*]'),
                lambda part: coalesce(json_type(part, '$.text'), 'NULL') <> 'VARCHAR'
            )
        ) = 0,
        false
    ) as is_text,
    coalesce(
        case content
            when 'VARCHAR' then strip(json_extract_string(turn, '$.content')) <> ''
            when 'ARRAY' then strip(array_to_string(json_extract_string(turn, '$.content[*].text'), '')) <> ''
        end,
        false
    ) as says_something,
    tool_call_id <> 'NULL' as names_call,
    case when tool_call_id = 'VARCHAR' then json_extract_string(turn, '$.tool_call_id') end as call_id,
    case when json_type(turn, '$.name') = 'VARCHAR' then json_extract_string(turn, '$.name') end as tool_name,
    coalesce(role in ('tool', 'function'), false) as is_result,
    count(case when role in ('tool', 'function') then null else 1 end) over (
        partition by task_id, event_id order by place
    ) as stretch
from typed
