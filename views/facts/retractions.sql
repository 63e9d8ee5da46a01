-- One row per retraction that has not itself been withdrawn. Only a retraction of its event id withdraws a retraction,
-- and one level deep: withdrawing the withdrawal does not bring the first one back; say it again instead.
with
withdrawn as (
    select target
    from events.retractions
    where target_type = 'event'
)

select
    retraction.event_id,
    retraction.recorded_at,
    retraction.schema_version,
    retraction.source,
    retraction.batch,
    retraction.target_type,
    retraction.target,
    retraction.reason,
    retraction.actor,
    retraction.extra
from events.retractions as retraction
anti join withdrawn on retraction.event_id = withdrawn.target
