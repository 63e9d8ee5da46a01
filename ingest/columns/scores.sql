-- One row per row of `input` (number, line), and whether it is plainly a score: known keys, each once, each a text, a
-- list of texts, a number of ordinary size or null. What evidence.sql says of other rows holds here, too.
with parsed as (
    select
        number,
        line,
        json_keys(line) as member_names,
        json_type(line, [
            'run_id', 'task_id', 'scorer', 'scorer_version', 'category', 'actor', 'recorded_at', 'score', 'reasons'
        ]) as member_types,
        json_transform(line, '{
            "run_id": "VARCHAR", "task_id": "VARCHAR", "scorer": "VARCHAR", "scorer_version": "VARCHAR",
            "category": "VARCHAR", "actor": "VARCHAR", "recorded_at": "VARCHAR", "score": "JSON"
        }') as given,
        case
            when contains(line, '"reasons"') then json_type(line, '$.reasons[*]')
        end as item_types,
        case
            when contains(line, '"reasons"') then json_transform(line, '{"reasons": ["VARCHAR"]}').reasons
        end as reasons
    from input
),

checked as (
    select
        number,
        given,
        member_types,
        reasons,
        (
            member_types[1] = 'VARCHAR'
            and coalesce(member_types[2], 'NULL') in ('VARCHAR', 'NULL')
            and member_types[3] = 'VARCHAR'
            and coalesce(member_types[4], 'NULL') in ('VARCHAR', 'NULL')
            and member_types[5] = 'VARCHAR'
            and coalesce(member_types[6], 'NULL') in ('VARCHAR', 'NULL')
            and coalesce(member_types[7], 'NULL') in ('VARCHAR', 'NULL')
            and coalesce(member_types[8], 'NULL') in ('DOUBLE', 'UBIGINT', 'BIGINT', 'NULL')
            and (
                coalesce(member_types[9], 'NULL') = 'NULL'
                or (
                    member_types[9] = 'ARRAY'
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
    given.scorer,
    given.scorer_version,
    given.category,
    given.actor,
    try_cast(given.score as double) as score,
    reasons,
    try_cast(given.recorded_at as timestamptz) as recorded_at,
    coalesce(
        is_typed
        -- Not blank; what begins otherwise is looked at more closely.
        and given.run_id between '!' and '~'
        and given.scorer between '!' and '~'
        and coalesce(given.scorer_version, '1') between '!' and '~'
        and (
            coalesce(member_types[8], 'NULL') = 'NULL'
            -- Numbers of this form are written alike everywhere, and kept exactly.
            or (
                regexp_full_match(given.score, '-?\d{1,15}(\.\d{1,17})?')
                and (try_cast(given.score as double) = 0 or abs(try_cast(given.score as double)) between 0.001 and 1e15)
            )
        )
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
        member('actor', given.actor, member_types[6]) || ',',
        member('category', given.category, member_types[5]) || ',',
        member('reasons', reasons, member_types[9]) || ',',
        member('recorded_at', given.recorded_at, member_types[7]) || ',',
        member('run_id', given.run_id, member_types[1]) || ',',
        '"score":' || case when member_types[8] = 'NULL' then 'null' else given.score end || ',',
        member('scorer', given.scorer, member_types[3]),
        ',' || member('scorer_version', given.scorer_version, member_types[4]),
        ',' || member('task_id', given.task_id, member_types[2]),
        '}'
    ) as canonical
from checked
