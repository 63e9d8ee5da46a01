-- One row per version that any scorer has used, with its place: the greater, the newer
with
versions as (
    select distinct scorer_version
    from scores
)

select
    scorer_version,
    row_number() over (order by version_numbers(scorer_version), scorer_version) as place
from versions
