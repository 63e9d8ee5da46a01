-- One row per row that a section holds: a text, a question with its answer, or a preference; n is its place, from 0
-- What the grammar of sections is, `### Q` and `### A` or `### Prompt`, `### Chosen` and `### Rejected`, says
-- docs/replay.md; a section that does not keep to it, or is blank, has no row. A section may also be one row as JSON.
with
contents as (
    select
        section_id,
        min(section_type) as section_type,
        min(content) as content
    from replay
    group by section_id
),

plain as (
    select
        section_id,
        section_type,
        replace(replace(ltrim(content, chr(65279)), chr(13) || chr(10), chr(10)), chr(13), chr(10)) as content,
        section_type <> 'prose' and strip(ltrim(content, chr(65279))) like '{%' as is_json
    from contents
),

-- Every line gets a line feed of its own on both sides, so that headers on lines that follow each other are both found.
lined as (
    select
        section_id,
        section_type,
        chr(10) || replace(content, chr(10), chr(10) || chr(10)) || chr(10) as content
    from plain
    where section_type <> 'prose' and not is_json
),

split_up as (
    select
        section_id,
        section_type,
        list_transform(
            regexp_extract_all(
                content, '\n {0,3}### (Q|Q[ \t]+!probe|A|Prompt|Chosen|Rejected)[ \t]*\n', 1
            ),
            lambda header: regexp_replace(header, '[ \t]+!probe', '')
        ) as headers,
        list_transform(
            regexp_split_to_array(content, '\n {0,3}### (Q|Q[ \t]+!probe|A|Prompt|Chosen|Rejected)[ \t]*\n'),
            lambda body: strip(replace(body, chr(10) || chr(10), chr(10)))
        ) as bodies
    from lined
),

sound as (
    select
        section_id,
        section_type,
        list_slice(bodies, 2, len(bodies)) as bodies,
        case section_type when 'instruction' then 2 else 3 end as width
    from split_up
    where
        list_first(bodies) = ''
        and regexp_full_match(
            array_to_string(headers, ' ') || ' ',
            case section_type when 'instruction' then '(Q A )+' else '(Prompt Chosen Rejected )+' end
        )
),

parts as (
    select
        section_id,
        section_type,
        bodies,
        width,
        unnest(range(cast(len(bodies) // width as bigint))) as n
    from sound
),

talks as (
    select
        section_id,
        cast(json_extract(content, '$.messages') as varchar) as messages,
        nullif(cast(json_extract(content, '$.tools') as varchar), 'null') as tools,
        json_transform(
            json_extract(content, '$.messages'), '[{"role": "VARCHAR", "content": "VARCHAR", "tool_calls": "VARCHAR"}]'
        ) as turns
    from plain
    where is_json and section_type = 'instruction' and json_valid(content)
),

sound_talks as (
    select
        section_id,
        messages,
        tools,
        turns
    from talks
    where
        list_last(turns).role = 'assistant'
        and (strip(list_last(turns).content) <> '' or list_last(turns).tool_calls is not null)
        and len(
            list_filter(
                turns,
                lambda turn: turn.role in ('system', 'developer', 'user', 'assistant', 'tool', 'function')
                and (turn.content is not null or turn.tool_calls is not null)
            )
        ) = len(turns)
),

found as (
    select
        section_id,
        section_type,
        0 as n,
        strip(content) as prose,
        null as prompt,
        null as response,
        null as messages,
        null as tools,
        null as chosen,
        null as rejected
    from plain
    where section_type = 'prose'
    union all
    select
        section_id,
        section_type,
        n,
        null as prose,
        bodies[n * 2 + 1] as prompt,
        bodies[n * 2 + 2] as response,
        null as messages,
        null as tools,
        null as chosen,
        null as rejected
    from parts
    where section_type = 'instruction'
    union all
    select
        section_id,
        section_type,
        n,
        null as prose,
        bodies[n * 3 + 1] as prompt,
        null as response,
        null as messages,
        null as tools,
        bodies[n * 3 + 2] as chosen,
        bodies[n * 3 + 3] as rejected
    from parts
    where section_type = 'preference'
    union all
    select
        section_id,
        'instruction' as section_type,
        0 as n,
        null as prose,
        case
            when len(turns) = 2 and list_first(turns).role = 'user' then list_first(turns).content
            else array_to_string(
                list_transform(
                    list_slice(turns, 1, len(turns) - 1), lambda turn: concat(turn.role, ': ', turn.content)
                ),
                chr(10) || chr(10)
            )
        end as prompt,
        list_last(turns).content as response,
        messages,
        tools,
        null as chosen,
        null as rejected
    from sound_talks
    union all
    select
        section_id,
        section_type,
        0 as n,
        null as prose,
        json_extract_string(content, '$.prompt') as prompt,
        null as response,
        null as messages,
        null as tools,
        json_extract_string(content, '$.chosen') as chosen,
        json_extract_string(content, '$.rejected') as rejected
    from plain
    where is_json and section_type = 'preference' and json_valid(content)
)

select
    section_id,
    section_type,
    n,
    prose,
    prompt,
    response,
    messages,
    tools,
    chosen,
    rejected
from found
where
    messages is not null
    or strip(prose) <> ''
    or (strip(prompt) <> '' and strip(response) <> '')
    or (strip(prompt) <> '' and strip(chosen) <> '' and strip(rejected) <> '')
