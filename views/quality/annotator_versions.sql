-- One row per version that any annotator has had, with its place: the greater, the newer
with
versions as (
    select distinct annotator_version
    from annotations
),

-- As of scorers: numbers of any length count as numbers.
numbered as (
    select
        annotator_version,
        list_transform(
            list_transform(
                regexp_extract_all(annotator_version, '[0-9]+'), lambda digits: regexp_replace(digits, '^0+', '')
            ),
            lambda digits: concat(lpad(cast(length(digits) as varchar), 9, '0'), digits)
        ) as numbers
    from versions
)

select
    annotator_version,
    row_number() over (order by numbers, annotator_version) as place
from numbered
