-- One row per row of `input` (number, line), and whether it is plainly evidence: known keys, each once, each a text, a
-- list of texts or null. A row that is not plain is left to the row-by-row path, which comes to the same for those that
-- are. `canonical` is the canonical JSON of a plain row. Nothing is filtered here: the optimizer would parse the line
-- again for every condition.
with parsed as (
    select
        number,
        line,
        json_keys(line) as member_names,
        -- Each member as JSON; null where it is null or missing.
        json_transform(line, '{
            "run_id": "JSON", "task_id": "JSON", "kind": "JSON", "role": "JSON", "model": "JSON", "stream": "JSON",
            "prompt": "JSON", "text": "JSON", "recorded_at": "JSON", "source_files": "JSON"
        }') as given
    from input
),

counted as (
    select
        number,
        line,
        member_names,
        given,
        (
            (given.run_id is not null)::integer
            + (given.task_id is not null)::integer
            + (given.kind is not null)::integer
            + (given.role is not null)::integer
            + (given.model is not null)::integer
            + (given.stream is not null)::integer
            + (given.prompt is not null)::integer
            + (given.text is not null)::integer
            + (given.recorded_at is not null)::integer
            + (given.source_files is not null)::integer
        ) as told
    from parsed
),

typed as (
    select
        number,
        line,
        member_names,
        given,
        told,
        -- Some member is null, unknown or there twice; which of these, the types tell.
        case
            when len(member_names) != told
                then json_type(line, [
                    'run_id', 'task_id', 'kind', 'role', 'model', 'stream', 'prompt', 'text', 'recorded_at',
                    'source_files'
                ])
        end as member_types
    from counted
)

select
    number,
    json_extract_string(given.run_id, '$') as run_id,
    json_extract_string(given.task_id, '$') as task_id,
    json_extract_string(given.kind, '$') as kind,  -- noqa: RF04
    json_extract_string(given.role, '$') as role,  -- noqa: RF04
    json_extract_string(given.model, '$') as model,  -- noqa: RF04
    json_extract_string(given.stream, '$') as stream,  -- noqa: RF04
    json_extract_string(given.prompt, '$') as prompt,
    json_extract_string(given.text, '$') as text,  -- noqa: RF04
    json_extract_string(given.source_files, '$[*]') as source_files,
    try_cast(json_extract_string(given.recorded_at, '$') as timestamptz) as recorded_at,
    coalesce(
        -- Each key is known and stands there once.
        (len(member_names) = told or len(member_names) = list_count(member_types))
        and coalesce(starts_with(given.kind, '"'), true)
        and coalesce(starts_with(given.role, '"'), true)
        and coalesce(starts_with(given.model, '"'), true)
        and coalesce(starts_with(given.stream, '"'), true)
        and coalesce(starts_with(given.prompt, '"'), true)
        and coalesce(starts_with(given.text, '"'), true)
        -- Text that is not blank; what begins otherwise is looked at more closely.
        and given.run_id::varchar between '"!' and '"~'
        and given.task_id::varchar between '"!' and '"~'
        and (
            given.recorded_at is null
            or regexp_full_match(
                given.recorded_at,
                '"20\d\d-\d\d-\d\d[T ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-](0\d|1[0-4]):[0-5]\d)?"'
            )
            and try_cast(json_extract_string(given.recorded_at, '$') as timestamptz) is not null
        )
        and (
            given.source_files is null
            or (
                given.source_files = '[]'
                or list_distinct(json_type(given.source_files, '$[*]')) = ['VARCHAR']
            )
            -- The parser lets a comma after the last item pass.
            and not regexp_matches(line, ',\s*\]')
        )
        -- Control characters are escaped in another way here than in canonical JSON.
        and (not contains(line, '\') or not (contains(line, '\u000') or contains(line, '\u001'))),
        false
    ) as is_plain,
    concat(
        '{',
        case
            when given.kind is not null then '"kind":'
            when member_types[3] = 'NULL' then '"kind":null,'
        end,
        given.kind,
        case when given.kind is not null then ',' end,
        case
            when given.model is not null then '"model":'
            when member_types[5] = 'NULL' then '"model":null,'
        end,
        given.model,
        case when given.model is not null then ',' end,
        case
            when given.prompt is not null then '"prompt":'
            when member_types[7] = 'NULL' then '"prompt":null,'
        end,
        given.prompt,
        case when given.prompt is not null then ',' end,
        case
            when given.recorded_at is not null then '"recorded_at":'
            when member_types[9] = 'NULL' then '"recorded_at":null,'
        end,
        given.recorded_at,
        case when given.recorded_at is not null then ',' end,
        case
            when given.role is not null then '"role":'
            when member_types[4] = 'NULL' then '"role":null,'
        end,
        given.role,
        case when given.role is not null then ',' end,
        '"run_id":', given.run_id, ',',
        case
            when given.source_files is not null then '"source_files":'
            when member_types[10] = 'NULL' then '"source_files":null,'
        end,
        given.source_files,
        case when given.source_files is not null then ',' end,
        case
            when given.stream is not null then '"stream":'
            when member_types[6] = 'NULL' then '"stream":null,'
        end,
        given.stream,
        case when given.stream is not null then ',' end,
        '"task_id":', given.task_id,
        case
            when given.text is not null then ',"text":'
            when member_types[8] = 'NULL' then ',"text":null'
        end,
        given.text,
        '}'
    ) as canonical
from typed
