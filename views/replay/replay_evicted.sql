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
        size.section_id,
        size.section_type,
        size.last_seen,
        size.bytes
    from replay_sizes as size
    inner join budget on budget.max_bytes >= 0
),

excess as (
    select sum(sections.bytes) - max(budget.max_bytes) as bytes
    from sections
    cross join budget
),

evictable as (
    select
        sections.section_id,
        sections.section_type,
        sections.last_seen,
        sections.bytes
    from sections
    anti join replay_protected on sections.section_id = replay_protected.section_id
),

times as (
    select
        last_seen,
        sum(bytes) as bytes
    from evictable
    group by last_seen
),

-- Moments are put in order rather than sections, of which there may be millions; within the last one it takes both.
running as (
    select
        last_seen,
        bytes,
        sum(bytes) over (order by last_seen rows between unbounded preceding and current row) - bytes as gone_before
    from times
),

reached as (
    select
        running.last_seen,
        running.gone_before,
        excess.bytes as excess,
        running.gone_before + running.bytes > excess.bytes as is_last
    from running
    inner join excess on running.gone_before < excess.bytes
),

in_part as (
    select
        evictable.section_id,
        evictable.section_type,
        evictable.last_seen,
        evictable.bytes,
        reached.excess,
        reached.gone_before + sum(evictable.bytes) over (
            order by evictable.section_id rows between unbounded preceding and current row
        ) - evictable.bytes as gone_before
    from evictable
    inner join reached on evictable.last_seen = reached.last_seen
    where reached.is_last
)

select
    evictable.section_id,
    evictable.section_type,
    evictable.last_seen,
    evictable.bytes
from evictable
inner join reached on evictable.last_seen = reached.last_seen
where not reached.is_last
union all
select
    section_id,
    section_type,
    last_seen,
    bytes
from in_part
where gone_before < excess
