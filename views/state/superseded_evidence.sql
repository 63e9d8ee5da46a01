-- One row per evidence event that a newer one of the same run replaces
with
-- Hardly any run is told twice, so the others need no ordering.
repeated as (
    select run_id
    from evidence
    group by run_id
    having count(*) > 1
),

told as (
    select
        evidence.event_id,
        row_number() over (
            partition by evidence.run_id
            order by evidence.recorded_at desc nulls last, evidence.event_id desc
        ) as recency
    from evidence
    inner join repeated on evidence.run_id = repeated.run_id
)

select event_id
from told
where recency > 1
