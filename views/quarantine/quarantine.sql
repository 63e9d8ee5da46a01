-- One row per refused record per dataset, with every error and the one that counts first
with
refused as (
    select
        dataset,
        record_type,
        record_id,
        run_id,
        task_id,
        event_id,
        source,
        recorded_at,
        errors
    from dataset_checks
    where errors <> ''
    union all
    select
        'preference' as dataset,
        'pair' as record_type,
        pair.id as record_id,
        pair.chosen_run_id as run_id,
        pair.task_id,
        pair.chosen_event_id as event_id,
        chosen.source,
        chosen.recorded_at,
        pair.errors
    from pair_candidates as pair
    inner join evidence as chosen on pair.chosen_event_id = chosen.event_id
    where pair.errors <> ''
)

select
    dataset,
    split_part(errors, ',', 1) as reason,
    string_split(errors, ',') as errors,
    record_type,
    record_id,
    run_id,
    task_id,
    event_id,
    source,
    recorded_at
from refused
