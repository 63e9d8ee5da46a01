-- One row per stage, dataset, source, category and reason: how many records came so far, or why they did not
with
pairs as (
    select
        chosen.source.file as source,
        pair.errors
    from pair_candidates as pair
    inner join evidence as chosen on pair.chosen_event_id = chosen.event_id
),

stages as (
    select
        'rejected input' as stage,
        null as dataset,
        source.file as source,
        null as category,
        reason
    from rejects
    union all
    select
        'evidence' as stage,
        null as dataset,
        source.file as source,
        null as category,
        null as reason
    from evidence
    union all
    select
        'run' as stage,
        null as dataset,
        source.file as source,
        coalesce(category, 'unscored') as category,
        null as reason
    from runs
    union all
    select
        case when errors = '' then 'exported' else 'quarantined' end as stage,
        dataset,
        source.file as source,
        case when errors = '' then category end as category,
        nullif(split_part(errors, ',', 1), '') as reason
    from dataset_checks
    where dataset <> 'preference' or errors <> ''
    union all
    select
        case when errors = '' then 'exported' else 'quarantined' end as stage,
        'preference' as dataset,
        source,
        case when errors = '' then 'accepted' end as category,
        nullif(split_part(errors, ',', 1), '') as reason
    from pairs
    union all
    select
        'task without a pair' as stage,
        'preference' as dataset,
        null as source,
        null as category,
        reason
    from unpaired_tasks
)

select
    stage,
    dataset,
    source,
    category,
    reason,
    count(*) as records
from stages
group by stage, dataset, source, category, reason
