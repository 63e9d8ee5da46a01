-- One row per section that is no longer active, because the budget of bytes does not suffice for all
-- The sections that were last seen the longest ago go first, of those seen at once the one with the lower id, and no
-- more of them than it takes. Protected ones stay, even if they alone are too much. Nothing is deleted: with another
-- budget, or seen again, a section is back.
with
budget as (
    select max_bytes
    from replay_policy
    where max_bytes is not null
),

sections as (
    select
        seen.section_id,
        seen.section_type,
        seen.last_seen,
        size.bytes
    from replay_seen as seen
    inner join replay_sizes as size on seen.section_id = size.section_id
    cross join budget
),

excess as (
    select sum(sections.bytes) - max(budget.max_bytes) as bytes
    from sections
    cross join budget
),

in_order as (
    select
        sections.section_id,
        sections.section_type,
        sections.last_seen,
        sections.bytes,
        sum(sections.bytes) over (
            order by sections.last_seen, sections.section_id
            rows between unbounded preceding and current row
        ) - sections.bytes as gone_before
    from sections
    anti join replay_protected on sections.section_id = replay_protected.section_id
)

select
    in_order.section_id,
    in_order.section_type,
    in_order.last_seen,
    in_order.bytes
from in_order
inner join excess on in_order.gone_before < excess.bytes
