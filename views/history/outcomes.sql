-- One row per decision about a run, in the order of `stage`: which verdict counts, what became of it in each dataset
with
checks as (
    select
        3 as stage,
        'sft' as what,
        record_type,
        run_id,
        task_id,
        event_id,
        recorded_at,
        source,
        errors
    from sft_checks
    union all
    select
        4 as stage,
        'rag' as what,
        record_type,
        run_id,
        task_id,
        event_id,
        recorded_at,
        source,
        errors
    from rag_checks
    union all
    select
        5 as stage,
        'preference' as what,
        record_type,
        run_id,
        task_id,
        event_id,
        recorded_at,
        source,
        errors
    from preference_checks
)

select
    2 as stage,
    'verdict' as what,
    run_id,
    task_id,
    event_id,
    recorded_at,
    source,
    concat(
        category, ' by ', scorer, ' ', scorer_version, ', one of ', scorers, ' scorers, ', dissenting,
        ' of them dissenting'
    ) as detail
from verdicts
union all
select
    stage,
    what,
    run_id,
    task_id,
    event_id,
    recorded_at,
    source,
    case
        when errors <> '' then concat('quarantined: ', replace(errors, ',', ', '))
        when what = 'preference' then 'may stand in a pair'
        else concat('exported as ', what, '-', substr(sha256(run_id), 1, 16))
    end as detail
from checks
union all
select
    6 as stage,
    'pair' as what,
    chosen_run_id as run_id,
    task_id,
    rejected_event_id as event_id,
    null as recorded_at,
    null as source,
    concat(
        id, ': chosen over ', rejected_run_id,
        case when errors <> '' then concat(', quarantined: ', replace(errors, ',', ', ')) else '' end
    ) as detail
from pair_candidates
union all
select
    6 as stage,
    'pair' as what,
    rejected_run_id as run_id,
    task_id,
    chosen_event_id as event_id,
    null as recorded_at,
    null as source,
    concat(
        id, ': rejected in favour of ', chosen_run_id,
        case when errors <> '' then concat(', quarantined: ', replace(errors, ',', ', ')) else '' end
    ) as detail
from pair_candidates
