-- One row per decision about a run, in the order of `stage`: which verdict counts, what became of it in each dataset
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
    case dataset when 'sft' then 3 when 'rag' then 4 else 5 end as stage,
    dataset as what,
    run_id,
    task_id,
    event_id,
    recorded_at,
    source,
    case
        when errors <> '' then concat('quarantined: ', replace(errors, ',', ', '))
        when dataset = 'preference' then 'may stand in a pair'
        else concat('exported as ', dataset, '-', substr(sha256(run_id), 1, 16))
    end as detail
from dataset_checks
where record_type in ('event', 'run')
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
