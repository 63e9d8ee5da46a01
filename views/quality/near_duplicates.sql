-- One row per evidence event that is a near copy, as is an earlier one of its kin, of the same event, or of that one
-- itself: the event that is kept, which is the first in the order of time and id
with
grouped as (
    select
        likeness.event_id,
        likeness.kin,
        finding.value as similarity,
        coalesce(finding.label, finding.target) as near
    from likenesses as likeness
    inner join findings as finding
        on likeness.event_id = finding.target and finding.annotator = 'near-duplicate'
),

placed as (
    select
        event_id,
        near,
        similarity,
        min(event_id) over (partition by kin, near) as kept_event_id
    from grouped
)

select
    event_id,
    kept_event_id,
    near,
    similarity
from placed
where event_id <> kept_event_id
