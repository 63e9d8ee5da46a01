-- One row per run that goes by an id, its own or that of an event of it, with its task
with
named as (
    select
        run_id,
        task_id
    from events.evidence
    where run_id = getvariable('ref') or event_id = getvariable('ref')
    union
    select
        run_id,
        task_id
    from events.scores
    where run_id = getvariable('ref') or event_id = getvariable('ref')
)

select
    named.run_id,
    coalesce(max(run.task_id), max(told.task_id), max(named.task_id)) as task_id
from named
left join runs as run on named.run_id = run.run_id
left join events.evidence as told on named.run_id = told.run_id
group by named.run_id
order by named.run_id
