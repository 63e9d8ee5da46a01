-- One row per step in the life of one task: what was said of it and withdrawn, how its runs were judged, its pairs
with
steps as (
    select
        0 as stage,
        what,
        detail,
        event_id,
        source,
        recorded_at
    from bearings
    where run_id is null and task_id = getvariable('task_id')
    union all
    select
        1 as stage,
        'runs' as what,
        concat(count(*), ' ', coalesce(category, 'unscored')) as detail,
        null as event_id,
        null as source,
        null as recorded_at
    from runs
    where task_id = getvariable('task_id')
    group by category
    union all
    select
        2 as stage,
        'pair' as what,
        concat(
            id, ': ', chosen_run_id, ' over ', rejected_run_id,
            case when errors <> '' then concat(', quarantined: ', replace(errors, ',', ', ')) else '' end
        ) as detail,
        null as event_id,
        null as source,
        null as recorded_at
    from pair_candidates
    where task_id = getvariable('task_id')
    union all
    select
        3 as stage,
        'unpaired' as what,
        concat('no pair: ', replace(reason, '_', ' ')) as detail,
        null as event_id,
        null as source,
        null as recorded_at
    from unpaired_tasks
    where task_id = getvariable('task_id')
    union all
    select
        4 as stage,
        dataset as what,
        case
            when errors <> '' then concat('quarantined: ', replace(errors, ',', ', '))
            else concat('exported as ', dataset, '-', substr(sha256(task_id), 1, 16))
        end as detail,
        event_id,
        source,
        recorded_at
    from dataset_checks
    where record_type = 'task' and task_id = getvariable('task_id')
)

select
    what,
    detail,
    null as run_id,
    getvariable('task_id') as task_id,
    event_id,
    source.file as source_file,
    source.line as source_line,
    recorded_at
from steps
order by stage, recorded_at nulls first, event_id, detail
