-- One row per row of `input` (number, line), and whether it is plainly evidence: known keys, each once, each a text, a
-- list of texts or null. A row that is not plain is left to the row-by-row path, which comes to the same for those that
-- are. Nothing is filtered here: the optimizer would parse the line again for every condition.
with parsed as (
    select
        number,
        line,
        json_keys(line) as member_names,
        json_type(line, [
            'run_id', 'task_id', 'kind', 'role', 'model', 'stream', 'prompt', 'text', 'recorded_at', 'source_files'
        ]) as member_types,
        json_transform(line, '{
            "run_id": "VARCHAR", "task_id": "VARCHAR", "kind": "VARCHAR", "role": "VARCHAR", "model": "VARCHAR",
            "stream": "VARCHAR", "prompt": "VARCHAR", "text": "VARCHAR", "recorded_at": "VARCHAR"
        }') as given,
        case
            when contains(line, '"source_files"') then json_type(line, '$.source_files[*]')
        end as item_types,
        case
            when contains(line, '"source_files"')
                then json_transform(line, '{"source_files": ["VARCHAR"]}').source_files
        end as source_files
    from input
),

checked as (
    select
        number,
        given,
        member_types,
        source_files,
        (
            member_types[1] = 'VARCHAR'
            and member_types[2] = 'VARCHAR'
            and coalesce(member_types[3], 'NULL') in ('VARCHAR', 'NULL')
            and coalesce(member_types[4], 'NULL') in ('VARCHAR', 'NULL')
            and coalesce(member_types[5], 'NULL') in ('VARCHAR', 'NULL')
            and coalesce(member_types[6], 'NULL') in ('VARCHAR', 'NULL')
            and coalesce(member_types[7], 'NULL') in ('VARCHAR', 'NULL')
            and coalesce(member_types[8], 'NULL') in ('VARCHAR', 'NULL')
            and coalesce(member_types[9], 'NULL') in ('VARCHAR', 'NULL')
            and (
                coalesce(member_types[10], 'NULL') = 'NULL'
                or (
                    member_types[10] = 'ARRAY'
                    and (len(item_types) = 0 or list_distinct(item_types) = ['VARCHAR'])
                    -- The parser lets a comma after the last item pass.
                    and not regexp_matches(line, ',\s*\]')
                )
            )
            -- Each key is known and stands there once.
            and len(member_names) = list_count(member_types)
            -- Control characters are escaped in another way here than in canonical JSON.
            and (not contains(line, '\') or not (contains(line, '\u000') or contains(line, '\u001')))
        ) as is_typed
    from parsed
)

select
    number,
    given.run_id,
    given.task_id,
    given.kind,
    given.role,
    given.model,
    given.stream,
    given.prompt,
    given.text,
    source_files,
    try_cast(given.recorded_at as timestamptz) as recorded_at,
    coalesce(
        is_typed
        -- Not blank; what begins otherwise is looked at more closely.
        and given.run_id between '!' and '~'
        and given.task_id between '!' and '~'
        and (
            given.recorded_at is null
            or (
                try_cast(given.recorded_at as timestamptz) is not null
                and regexp_full_match(
                    given.recorded_at,
                    '20\d\d-\d\d-\d\d[T ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-](0\d|1[0-4]):[0-5]\d)?'
                )
            )
        ),
        false
    ) as is_plain,
    concat(
        '{',
        member('kind', given.kind, member_types[3]) || ',',
        member('model', given.model, member_types[5]) || ',',
        member('prompt', given.prompt, member_types[7]) || ',',
        member('recorded_at', given.recorded_at, member_types[9]) || ',',
        member('role', given.role, member_types[4]) || ',',
        member('run_id', given.run_id, member_types[1]) || ',',
        member('source_files', source_files, member_types[10]) || ',',
        member('stream', given.stream, member_types[6]) || ',',
        member('task_id', given.task_id, member_types[2]),
        ',' || member('text', given.text, member_types[8]),
        '}'
    ) as canonical
from checked
