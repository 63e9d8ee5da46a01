-- One row per row of `input` (number, line), and whether it is plainly a task: known keys, each once, each a text or
-- null. What evidence.sql says of other rows holds here, too.
with parsed as (
    select
        number,
        line,
        json_keys(line) as member_names,
        -- Each member as JSON; null where it is null or missing.
        json_transform(line, '{
            "task_id": "JSON", "language": "JSON", "description": "JSON", "starter_code": "JSON", "tests": "JSON",
            "entry_point": "JSON", "answer": "JSON", "split": "JSON", "recorded_at": "JSON"
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
            (given.task_id is not null)::integer
            + (given.language is not null)::integer
            + (given.description is not null)::integer
            + (given.starter_code is not null)::integer
            + (given.tests is not null)::integer
            + (given.entry_point is not null)::integer
            + (given.answer is not null)::integer
            + (given.split is not null)::integer
            + (given.recorded_at is not null)::integer
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
                    'task_id', 'language', 'description', 'starter_code', 'tests', 'entry_point', 'answer', 'split',
                    'recorded_at'
                ])
        end as member_types
    from counted
)

select
    number,
    json_extract_string(given.task_id, '$') as task_id,
    json_extract_string(given.language, '$') as language,  -- noqa: RF04
    json_extract_string(given.description, '$') as description,
    json_extract_string(given.starter_code, '$') as starter_code,
    json_extract_string(given.tests, '$') as tests,
    json_extract_string(given.entry_point, '$') as entry_point,
    json_extract_string(given.answer, '$') as answer,
    json_extract_string(given.split, '$') as split,
    try_cast(json_extract_string(given.recorded_at, '$') as timestamptz) as recorded_at,
    coalesce(
        -- Each key is known and stands there once.
        (len(member_names) = told or len(member_names) = list_count(member_types))
        and coalesce(starts_with(given.language, '"'), true)
        and coalesce(starts_with(given.description, '"'), true)
        and coalesce(starts_with(given.starter_code, '"'), true)
        and coalesce(starts_with(given.tests, '"'), true)
        and coalesce(starts_with(given.entry_point, '"'), true)
        and coalesce(starts_with(given.answer, '"'), true)
        and coalesce(starts_with(given.split, '"'), true)
        -- Text that is not blank; what begins otherwise is looked at more closely.
        and given.task_id::varchar between '"!' and '"~'
        and (
            given.recorded_at is null
            or regexp_full_match(
                given.recorded_at,
                '"20\d\d-\d\d-\d\d[T ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-](0\d|1[0-4]):[0-5]\d)?"'
            )
            and try_cast(json_extract_string(given.recorded_at, '$') as timestamptz) is not null
        )
        -- Control characters are escaped in another way here than in canonical JSON.
        and (not contains(line, '\') or not (contains(line, '\u000') or contains(line, '\u001'))),
        false
    ) as is_plain,
    concat(
        '{',
        case
            when given.answer is not null then '"answer":'
            when member_types[7] = 'NULL' then '"answer":null,'
        end,
        given.answer,
        case when given.answer is not null then ',' end,
        case
            when given.description is not null then '"description":'
            when member_types[3] = 'NULL' then '"description":null,'
        end,
        given.description,
        case when given.description is not null then ',' end,
        case
            when given.entry_point is not null then '"entry_point":'
            when member_types[6] = 'NULL' then '"entry_point":null,'
        end,
        given.entry_point,
        case when given.entry_point is not null then ',' end,
        case
            when given.language is not null then '"language":'
            when member_types[2] = 'NULL' then '"language":null,'
        end,
        given.language,
        case when given.language is not null then ',' end,
        case
            when given.recorded_at is not null then '"recorded_at":'
            when member_types[9] = 'NULL' then '"recorded_at":null,'
        end,
        given.recorded_at,
        case when given.recorded_at is not null then ',' end,
        case
            when given.split is not null then '"split":'
            when member_types[8] = 'NULL' then '"split":null,'
        end,
        given.split,
        case when given.split is not null then ',' end,
        case
            when given.starter_code is not null then '"starter_code":'
            when member_types[4] = 'NULL' then '"starter_code":null,'
        end,
        given.starter_code,
        case when given.starter_code is not null then ',' end,
        '"task_id":', given.task_id,
        case
            when given.tests is not null then ',"tests":'
            when member_types[5] = 'NULL' then ',"tests":null'
        end,
        given.tests,
        '}'
    ) as canonical
from typed
