-- One row per row of a dataset that two databases, `old` and `new`, do not have alike, with the event that did it: one
-- that has `moved`, about the row's runs if there is one, else about its task; the newest of these
with
before as (
    select
        dataset,
        id,
        run_id,
        rejected_run_id,
        task_id,
        fingerprint
    from old.exported_rows
    where dataset = getvariable('dataset')
),

after as (
    select
        dataset,
        id,
        run_id,
        rejected_run_id,
        task_id,
        fingerprint
    from new.exported_rows
    where dataset = getvariable('dataset')
),

differences as (
    select
        coalesce(after.dataset, before.dataset) as dataset,
        case when before.id is null then 'entered' when after.id is null then 'left' else 'changed' end as change,
        coalesce(after.id, before.id) as id,
        coalesce(after.run_id, before.run_id) as run_id,
        coalesce(after.rejected_run_id, before.rejected_run_id) as rejected_run_id,
        coalesce(after.task_id, before.task_id) as task_id
    from before
    full outer join after on before.id = after.id
    where before.fingerprint is distinct from after.fingerprint
),

-- An equality each, rather than one join with an `or` in it, so that each is a hash join.
causes as (
    select
        difference.id,
        1 as distance,
        event.*
    from differences as difference
    inner join moved as event on difference.run_id = event.run_id
    union all
    select
        difference.id,
        1 as distance,
        event.*
    from differences as difference
    inner join moved as event on difference.rejected_run_id = event.run_id
    union all
    select
        difference.id,
        case when event.run_id is null then 1 else 2 end as distance,
        event.*
    from differences as difference
    inner join moved as event on difference.task_id = event.task_id
),

newest as (
    select
        id,
        what,
        detail,
        event_id,
        source,
        recorded_at,
        row_number() over (partition by id order by distance asc, recorded_at desc nulls last, event_id desc) as place
    from causes
)

select
    difference.dataset,
    difference.change,
    difference.id,
    difference.run_id,
    difference.rejected_run_id,
    difference.task_id,
    coalesce(newest.what, 'rules') as cause,
    newest.detail,
    newest.event_id,
    newest.source.file as source_file,
    newest.source.line as source_line,
    newest.recorded_at
from differences as difference
left join newest on difference.id = newest.id and newest.place = 1
order by difference.task_id, difference.id
