-- One row per trajectory: what of its conversation no form can tell, as reasons in the order in which they count,
-- joined by commas; '' is none. An exporter renders whatever has none. Of what is wrong with tool results, the first.
with
conversations as (
    select
        task_id,
        event_id,
        list_transform(
            case when json_valid(messages) then json_extract(messages, '$[*]') end,
            lambda turn: {
                'turn': turn,
                'role': case when json_type(turn, '$.role') = 'VARCHAR' then json_extract_string(turn, '$.role') end,
                'content': coalesce(json_type(turn, '$.content'), 'NULL'),
                'called': coalesce(json_type(turn, '$.tool_calls'), 'NULL')
            }
        ) as turns
    from evidence
    where kind = 'trajectory'
),

told as (
    select
        task_id,
        event_id,
        list_transform(
            turns,
            lambda told: {
                'role': told.role,
                'is_message': coalesce(
                    told.role in ('system', 'developer', 'user', 'assistant', 'tool', 'function')
                    and told.content in ('VARCHAR', 'ARRAY', 'NULL')
                    and (
                        told.role <> 'assistant'
                        or (
                            told.called in ('ARRAY', 'NULL')
                            and coalesce(json_type(told.turn, '$.thinking'), 'NULL') in ('VARCHAR', 'NULL')
                            and coalesce(json_type(told.turn, '$.reasoning_content'), 'NULL') in ('VARCHAR', 'NULL')
                            and coalesce(json_type(told.turn, '$.reasoning'), 'NULL') in ('VARCHAR', 'NULL')
                        )
                    ),
                    false
                ),
                'is_text': coalesce(
                    told.content <> 'ARRAY'
                    or len(
                        list_filter(
                            json_extract(told.turn, '$.content[*]'),
                            lambda part: coalesce(json_type(part, '$.text'), 'NULL') <> 'VARCHAR'
                        )
                    ) = 0,
                    false
                ),
                'says_something': coalesce(
                    case told.content
                        when 'VARCHAR' then strip(json_extract_string(told.turn, '$.content')) <> ''
                        when 'ARRAY'
                            then strip(array_to_string(json_extract_string(told.turn, '$.content[*].text'), '')) <> ''
                    end,
                    false
                ),
                'calls': case
                    when told.role = 'assistant' and told.called = 'ARRAY'
                        then list_transform(
                            json_extract(told.turn, '$.tool_calls[*]'),
                            lambda one: {
                                'id': case
                                    when json_type(one, '$.id') = 'VARCHAR' then json_extract_string(one, '$.id')
                                end,
                                'callee': case
                                    when json_exists(one, '$.function') then json_extract(one, '$.function') else one
                                end
                            }
                        )
                    else []
                end,
                'is_result': coalesce(told.role in ('tool', 'function'), false),
                'names_call': coalesce(json_type(told.turn, '$.tool_call_id'), 'NULL') <> 'NULL',
                'call_id': case
                    when json_type(told.turn, '$.tool_call_id') = 'VARCHAR'
                        then json_extract_string(told.turn, '$.tool_call_id')
                end,
                'tool_name': case
                    when json_type(told.turn, '$.name') = 'VARCHAR' then json_extract_string(told.turn, '$.name')
                end
            }
        ) as turns
    from conversations
),

spoken as (
    select
        task_id,
        event_id,
        turns,
        list_position(
            list_transform(turns, lambda told: coalesce(told.role not in ('system', 'developer'), true)), true
        ) as begins,
        list_transform(
            turns,
            lambda told: {
                'is_result': told.is_result,
                'names_call': told.names_call,
                'wanted': case when told.names_call then told.call_id else told.tool_name end,
                'open': list_transform(
                    told.calls,
                    lambda one: {
                        'id': one.id,
                        'tool_name': case
                            when json_type(one.callee, '$.name') = 'VARCHAR'
                                then json_extract_string(one.callee, '$.name')
                        end
                    }
                ),
                'fault': ''
            }
        ) as steps
    from told
),

answered as (
    select
        task_id,
        event_id,
        turns,
        begins,
        tool_fault(steps) as fault
    from spoken
)

select
    task_id,
    event_id,
    concat_ws(
        ',',
        case
            when len(turns) = 0 or len(list_filter(turns, lambda told: not told.is_message)) > 0
                then 'schema_violation'
        end,
        case when len(list_filter(turns, lambda told: told.role = 'assistant')) = 0 then 'no_answer' end,
        case
            when
                turns[begins].role is distinct from 'user'
                or len(list_filter(turns[begins:], lambda told: told.role in ('system', 'developer'))) > 0
                then 'role_order'
        end,
        case when len(list_filter(turns, lambda told: not told.is_text)) > 0 then 'content_without_text' end,
        case
            when
                len(
                    list_filter(
                        turns,
                        lambda told: told.role = 'assistant' and not told.says_something and len(told.calls) = 0
                    )
                ) > 0
                then 'empty_content'
        end,
        case
            when
                len(
                    list_filter(
                        flatten(list_transform(turns, lambda told: told.calls)),
                        lambda one: not coalesce(
                            json_type(one.callee, '$.name') = 'VARCHAR'
                            and regexp_full_match(json_extract_string(one.callee, '$.name'), '[A-Za-z0-9_.-]+')
                            and case json_type(one.callee, '$.arguments')
                                when 'OBJECT' then true
                                when 'VARCHAR' then is_json_object(json_extract_string(one.callee, '$.arguments'))
                                else false
                            end,
                            false
                        )
                    )
                ) > 0
                then 'bad_tool_call'
        end,
        nullif(fault, '')
    ) as errors
from answered
where turns is not null
