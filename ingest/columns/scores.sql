-- One row per row of `input` (number, line), and whether it is plainly a score: known keys, each once, each a text, a
-- list of texts, a number of ordinary size or null. What evidence.sql says of other rows holds here, too.
with parsed as (
    select
        number,
        line,
        json_keys(line) as member_names,
        -- Each member as JSON; null where it is null or missing.
        json_transform(line, '{
            "run_id": "JSON", "task_id": "JSON", "scorer": "JSON", "scorer_version": "JSON", "category": "JSON",
            "actor": "JSON", "recorded_at": "JSON", "score": "JSON", "reasons": "JSON"
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
            + (given.scorer is not null)::integer
            + (given.scorer_version is not null)::integer
            + (given.category is not null)::integer
            + (given.actor is not null)::integer
            + (given.recorded_at is not null)::integer
            + (given.score is not null)::integer
            + (given.reasons is not null)::integer
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
                    'run_id', 'task_id', 'scorer', 'scorer_version', 'category', 'actor', 'recorded_at', 'score',
                    'reasons'
                ])
        end as member_types
    from counted
)

select
    number,
    json_extract_string(given.run_id, '$') as run_id,
    json_extract_string(given.task_id, '$') as task_id,
    json_extract_string(given.scorer, '$') as scorer,
    json_extract_string(given.scorer_version, '$') as scorer_version,
    json_extract_string(given.category, '$') as category,
    json_extract_string(given.actor, '$') as actor,
    try_cast(given.score as double) as score,
    json_extract_string(given.reasons, '$[*]') as reasons,
    try_cast(json_extract_string(given.recorded_at, '$') as timestamptz) as recorded_at,
    coalesce(
        -- Each key is known and stands there once.
        (len(member_names) = told or len(member_names) = list_count(member_types))
        and coalesce(starts_with(given.task_id, '"'), true)
        and starts_with(given.category, '"')
        and coalesce(starts_with(given.actor, '"'), true)
        -- Text that is not blank; what begins otherwise is looked at more closely.
        and given.run_id::varchar between '"!' and '"~'
        and given.scorer::varchar between '"!' and '"~'
        and coalesce(given.scorer_version::varchar between '"!' and '"~', true)
        -- Numbers of this form are written alike everywhere, and kept exactly.
        and coalesce(
            regexp_full_match(given.score, '-?\d{1,15}(\.\d{1,17})?')
            and (try_cast(given.score as double) = 0 or abs(try_cast(given.score as double)) between 0.001 and 1e15),
            true
        )
        and (
            given.recorded_at is null
            or regexp_full_match(
                given.recorded_at,
                '"20\d\d-\d\d-\d\d[T ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-](0\d|1[0-4]):[0-5]\d)?"'
            )
            and try_cast(json_extract_string(given.recorded_at, '$') as timestamptz) is not null
        )
        and (
            given.reasons is null
            or (
                given.reasons = '[]'
                or list_distinct(json_type(given.reasons, '$[*]')) = ['VARCHAR']
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
            when given.actor is not null then '"actor":'
            when member_types[6] = 'NULL' then '"actor":null,'
        end,
        given.actor,
        case when given.actor is not null then ',' end,
        '"category":', given.category, ',',
        case
            when given.reasons is not null then '"reasons":'
            when member_types[9] = 'NULL' then '"reasons":null,'
        end,
        given.reasons,
        case when given.reasons is not null then ',' end,
        case
            when given.recorded_at is not null then '"recorded_at":'
            when member_types[7] = 'NULL' then '"recorded_at":null,'
        end,
        given.recorded_at,
        case when given.recorded_at is not null then ',' end,
        '"run_id":', given.run_id, ',',
        case
            when given.score is not null then '"score":'
            when member_types[8] = 'NULL' then '"score":null,'
        end,
        given.score,
        case when given.score is not null then ',' end,
        '"scorer":', given.scorer,
        case
            when given.scorer_version is not null then ',"scorer_version":'
            when member_types[4] = 'NULL' then ',"scorer_version":null'
        end,
        given.scorer_version,
        case
            when given.task_id is not null then ',"task_id":'
            when member_types[2] = 'NULL' then ',"task_id":null'
        end,
        given.task_id,
        '}'
    ) as canonical
from typed
