-- One row per section that may be drawn, with the weight at which it is
-- Under the scheme recency a section's own weight times 1 / (1 + its age in days), which stays at a hundredth after 99
-- days; under uniform 1. A section of weight 0 is never drawn, whatever the scheme, nor one that a gate bars.
with
newest as (
    select coalesce(max(recorded_at), timestamptz '1970-01-01 00:00:00+00') as last_seen
    from replay
),

asked as (
    select
        terms.scheme,
        terms.auto_mined,
        coalesce(terms.now, newest.last_seen) as moment
    from replay_policy as terms
    cross join newest
)

select
    active.section_id,
    active.section_type,
    case asked.scheme
        when 'uniform' then 1.0
        else
            active.weight
            * greatest(0.01, 1 / (1 + greatest(0, epoch(asked.moment) - epoch(active.last_seen)) / 86400))
    end as draw_weight
from replay_active as active
cross join asked
anti join replay_reserved on active.section_id = replay_reserved.section_id
anti join barred_sections on active.section_id = barred_sections.section_id
where active.weight > 0 and isfinite(active.weight) and (asked.auto_mined or not active.auto_mined)
