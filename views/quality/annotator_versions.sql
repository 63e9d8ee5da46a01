-- One row per version that any annotator has had, with its place: the greater, the newer
with
versions as (
    select distinct annotator_version
    from annotations
)

select
    annotator_version,
    row_number() over (order by version_numbers(annotator_version), annotator_version) as place
from versions
