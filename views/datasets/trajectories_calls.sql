-- One row per tool call of a trajectory, with the stretch of the conversation that it is in. A call is sound if its
-- function has a name that a header can hold, and its arguments are an object or JSON of one.
with
calls as (
    select
        task_id,
        event_id,
        place,
        stretch,
        unnest(json_extract(turn, '$.tool_calls[*]')) as tool_call
    from trajectories_turns
    where role = 'assistant'
),

said as (
    select
        task_id,
        event_id,
        place,
        stretch,
        case when json_type(tool_call, '$.id') = 'VARCHAR' then json_extract_string(tool_call, '$.id') end as call_id,
        case
            when json_exists(tool_call, '$.function') then json_extract(tool_call, '$.function') else tool_call
        end as callee
    from calls
)

select
    task_id,
    event_id,
    place,
    stretch,
    call_id,
    case when json_type(callee, '$.name') = 'VARCHAR' then json_extract_string(callee, '$.name') end as tool_name,
    coalesce(
        json_type(callee, '$.name') = 'VARCHAR'
        and regexp_full_match(json_extract_string(callee, '$.name'), '[A-Za-z0-9_.-]+')
        and case json_type(callee, '$.arguments')
            when 'OBJECT' then true
            when 'VARCHAR' then is_json_object(json_extract_string(callee, '$.arguments'))
            else false
        end,
        false
    ) as is_sound
from said
