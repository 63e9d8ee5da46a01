-- One row per section that is kept for evaluation and never drawn: of all, the share with the smallest hashes
-- A share r of n sections are int(n * r + 0.999) of them, one at least. Those whose hash is far from small cannot be
-- among them; they are left out before the others are put in order, which matters where there are millions.
with
every as (
    select distinct section_id
    from replay
),

counted as (
    select count(*) as total
    from every
),

asked as (
    select
        terms.retention_seed,
        greatest(1, cast(floor(counted.total * terms.retention + 0.999) as bigint)) as wanted,
        terms.retention + 16 * sqrt(terms.retention / counted.total) + 64.0 / counted.total as portion
    from replay_policy as terms
    cross join counted
    where terms.retention > 0 and counted.total > 0
),

bounded as (
    select
        retention_seed,
        wanted,
        case when portion < 1 then printf('%08x', cast(floor(portion * 4294967296) as bigint)) else 'g' end as ceiling
    from asked
),

hashed as (
    select
        section.section_id,
        sha256(concat(bounded.retention_seed, chr(0), section.section_id)) as digest,
        bounded.wanted,
        bounded.ceiling
    from every as section
    cross join bounded
),

ranked as (
    select
        section_id,
        wanted,
        row_number() over (order by digest, section_id) as place
    from hashed
    where digest < ceiling
)

select section_id
from ranked
where place <= wanted
