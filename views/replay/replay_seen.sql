-- One row per section of past training: when it was first and last seen, how often, and its weight as told last
-- It reads ids, times and weights and no content, so that a draw among millions of sections takes seconds. A time that
-- nobody knew is taken for long ago; a weight that nobody told is 1.
with
dated as (
    select
        section_id,
        section_type,
        coalesce(recorded_at, timestamptz '1970-01-01 00:00:00+00') as seen,
        weight,
        coalesce(auto_mined, false) as auto_mined
    from replay
),

folded as (
    select
        section_id,
        min(section_type) as section_type,
        min(seen) as first_seen,
        max(seen) as last_seen,
        count(*) as sightings,
        max({ 'seen': seen, 'weight': weight }) filter (where weight is not null) as told,
        bool_or(auto_mined) as auto_mined
    from dated
    group by section_id
)

select
    section_id,
    section_type,
    first_seen,
    last_seen,
    sightings,
    coalesce(told.weight, 1) as weight,
    auto_mined
from folded
