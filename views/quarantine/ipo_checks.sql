-- One row per record that ipo considers, with its errors; '' is none: pairs, and the records that can stand in none
select
    'pair' as record_type,
    pair.id as record_id,
    pair.chosen_run_id as run_id,
    pair.task_id,
    'accepted' as category,
    pair.chosen_event_id as event_id,
    chosen.source,
    chosen.recorded_at,
    pair.errors
from ipo_pairs as pair
inner join evidence as chosen on pair.chosen_event_id = chosen.event_id
union all
select
    record_type,
    record_id,
    run_id,
    task_id,
    category,
    event_id,
    source,
    recorded_at,
    errors
from preference_checks
where errors <> ''
