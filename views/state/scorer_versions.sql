-- One row per version that any scorer has used, with its place: the greater, the newer
with
versions as (
    select distinct scorer_version
    from scores
),

-- The numbers in a version count as numbers of any length: 1.10 is after 1.9. Written as length and digits they compare
-- as text.
numbered as (
    select
        scorer_version,
        list_transform(
            list_transform(
                regexp_extract_all(scorer_version, '[0-9]+'), lambda digits: regexp_replace(digits, '^0+', '')
            ),
            lambda digits: concat(lpad(cast(length(digits) as varchar), 9, '0'), digits)
        ) as numbers
    from versions
)

select
    scorer_version,
    row_number() over (order by numbers, scorer_version) as place
from numbered
