-- One row per evidence event, with its conversation taken apart; the columns are null where it has none.
-- The one place that reads JSON. A turn's text is its content, the text parts of it, or else its tool calls.
with
read as (
    select
        *,
        case
            when messages is not null and json_valid(messages)
                then list_transform(
                    json_transform(messages, '[{"role": "VARCHAR", "content": "JSON", "tool_calls": "JSON"}]'),
                    lambda turn: {
                        'role': turn.role,
                        'readable': coalesce(json_type(turn.content) in ('VARCHAR', 'ARRAY', 'NULL'), true),
                        'text': coalesce(
                            nullif(
                                case json_type(turn.content)
                                    when 'VARCHAR' then json_extract_string(turn.content, '$')
                                    when 'ARRAY'
                                        then array_to_string(json_extract_string(turn.content, '$[*].text'), '')
                                end,
                                ''
                            ),
                            nullif(cast(turn.tool_calls as varchar), 'null'),
                            ''
                        )
                    }
                )
        end as turns,
        case when messages is not null and json_valid(extra) then json_extract(extra, '$.tools') end as tool_list
    from evidence
)

select
    event_id,
    recorded_at,
    schema_version,
    source,
    batch,
    run_id,
    task_id,
    kind,
    role,
    model,
    stream,
    prompt,
    messages,
    text,
    source_files,
    extra,
    case
        when messages is not null
            then coalesce(
                list_last(turns).role = 'assistant'
                and len(
                    list_filter(
                        turns,
                        lambda turn: turn.readable
                        and turn.role in ('system', 'developer', 'user', 'assistant', 'tool', 'function')
                    )
                ) = len(turns),
                false
            )
    end as is_chat,
    case
        when turns is null then null
        when len(turns) = 2 and list_first(turns).role = 'user' then list_first(turns).text
        else array_to_string(
            list_transform(list_slice(turns, 1, len(turns) - 1), lambda turn: concat(turn.role, ': ', turn.text)),
            chr(10) || chr(10)
        )
    end as request,
    list_last(turns).text as reply,
    case when json_type(tool_list) = 'ARRAY' then cast(tool_list as varchar) end as tools
from read
