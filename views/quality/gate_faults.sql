-- One row per evidence event that a shut gate bars from every training set: reasons in the order in which they count,
-- joined by commas
with
unseen as (
    select likeness.event_id
    from likenesses as likeness
    inner join quality_policy as rules on rules.near_duplicate = (likeness.event_id is not null)
    anti join findings as finding
        on likeness.event_id = finding.target and finding.annotator = 'near-duplicate'
    where rules.near_duplicate
),

reasons as (
    select
        event_id,
        1 as place,
        errors as reason
    from lone_gates
    union all
    select
        duplicates.event_id,
        2 as place,
        'exact_duplicate' as reason
    from duplicates
    cross join quality_policy as rules
    where rules.exact_duplicate
    union all
    select
        near_duplicates.event_id,
        3 as place,
        'near_duplicate' as reason
    from near_duplicates
    cross join quality_policy as rules
    where rules.near_duplicate
    union all
    select
        event_id,
        4 as place,
        'near_duplicate_unchecked' as reason
    from unseen
)

select
    event_id,
    string_agg(reason, ',' order by place) as errors
from reasons
group by event_id
