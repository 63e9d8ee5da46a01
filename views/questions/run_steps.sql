-- One row per step in the life of one run: what was said of it and withdrawn, then what was decided
with
steps as (
    select
        0 as stage,
        what,
        detail,
        run_id,
        task_id,
        event_id,
        source,
        recorded_at
    from bearings
    where run_id = getvariable('run_id')
    union all
    select
        0 as stage,
        what,
        detail,
        run_id,
        task_id,
        event_id,
        source,
        recorded_at
    from bearings
    where run_id is null and task_id = getvariable('task_id')
    union all
    select
        1 as stage,
        'superseded' as what,
        'a newer event of this run counts instead' as detail,
        evidence.run_id,
        evidence.task_id,
        evidence.event_id,
        evidence.source,
        evidence.recorded_at
    from evidence
    inner join superseded_evidence as superseded on evidence.event_id = superseded.event_id
    where evidence.run_id = getvariable('run_id')
    union all
    select
        stage,
        what,
        detail,
        run_id,
        task_id,
        event_id,
        source,
        recorded_at
    from outcomes
    where run_id = getvariable('run_id') and (what <> 'pair' or task_id = getvariable('task_id'))
)

select
    what,
    detail,
    run_id,
    task_id,
    event_id,
    source.file as source_file,
    source.line as source_line,
    recorded_at
from steps
order by stage, recorded_at nulls first, event_id, detail
