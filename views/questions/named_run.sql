-- One row per run that goes by an id, its own or that of an event of it, with its task; what counts comes first
select
    1 as rank,
    run_id,
    task_id
from evidence
where run_id = getvariable('ref')
union
select
    2 as rank,
    run_id,
    task_id
from events.evidence
where run_id = getvariable('ref') or event_id = getvariable('ref')
union
select
    3 as rank,
    run_id,
    task_id
from events.scores
where run_id = getvariable('ref') or event_id = getvariable('ref')
order by rank, task_id nulls last
