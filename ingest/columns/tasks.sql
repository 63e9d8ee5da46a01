-- One row per row of `input` (number, line), and whether it is plainly a task: known keys, each once, each a text or
-- null. What evidence.sql says of other rows holds here, too.
with parsed as (
    select
        number,
        line,
        json_keys(line) as member_names,
        json_type(line, [
            'task_id', 'language', 'description', 'starter_code', 'tests', 'entry_point', 'answer', 'split',
            'recorded_at'
        ]) as member_types,
        json_transform(line, '{
            "task_id": "VARCHAR", "language": "VARCHAR", "description": "VARCHAR", "starter_code": "VARCHAR",
            "tests": "VARCHAR", "entry_point": "VARCHAR", "answer": "VARCHAR", "split": "VARCHAR",
            "recorded_at": "VARCHAR"
        }') as given
    from input
),

checked as (
    select
        number,
        given,
        member_types,
        (
            member_types[1] = 'VARCHAR'
            and coalesce(member_types[2], 'NULL') in ('VARCHAR', 'NULL')
            and coalesce(member_types[3], 'NULL') in ('VARCHAR', 'NULL')
            and coalesce(member_types[4], 'NULL') in ('VARCHAR', 'NULL')
            and coalesce(member_types[5], 'NULL') in ('VARCHAR', 'NULL')
            and coalesce(member_types[6], 'NULL') in ('VARCHAR', 'NULL')
            and coalesce(member_types[7], 'NULL') in ('VARCHAR', 'NULL')
            and coalesce(member_types[8], 'NULL') in ('VARCHAR', 'NULL')
            and coalesce(member_types[9], 'NULL') in ('VARCHAR', 'NULL')
            -- Each key is known and stands there once.
            and len(member_names) = list_count(member_types)
            -- Control characters are escaped in another way here than in canonical JSON.
            and (not contains(line, '\') or not (contains(line, '\u000') or contains(line, '\u001')))
        ) as is_typed
    from parsed
)

select
    number,
    given.task_id,
    given.language,
    given.description,
    given.starter_code,
    given.tests,
    given.entry_point,
    given.answer,
    given.split,
    try_cast(given.recorded_at as timestamptz) as recorded_at,
    coalesce(
        is_typed
        -- Not blank; what begins otherwise is looked at more closely.
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
        member('answer', given.answer, member_types[7]) || ',',
        member('description', given.description, member_types[3]) || ',',
        member('entry_point', given.entry_point, member_types[6]) || ',',
        member('language', given.language, member_types[2]) || ',',
        member('recorded_at', given.recorded_at, member_types[9]) || ',',
        member('split', given.split, member_types[8]) || ',',
        member('starter_code', given.starter_code, member_types[4]) || ',',
        member('task_id', given.task_id, member_types[1]),
        ',' || member('tests', given.tests, member_types[5]),
        '}'
    ) as canonical
from checked
