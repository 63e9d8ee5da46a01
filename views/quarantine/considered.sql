-- One row per record considered for a dataset: each is in the dataset or in quarantine, and in one of them only
with
records as (
    select
        'event' as record_type,
        event_id as record_id
    from evidence
    union all
    select
        'run' as record_type,
        run_id as record_id
    from missing_runs
)

select
    'sft' as dataset,
    record_type,
    record_id
from records
union all
select
    'rag' as dataset,
    record_type,
    record_id
from records
union all
select
    'preference' as dataset,
    record_type,
    record_id
from preference_checks
where errors <> ''
union all
select
    'preference' as dataset,
    'pair' as record_type,
    id as record_id
from pair_candidates
