-- One row per event and what it bears on: a run of a task, or with run_id null the task as a whole. Events that have
-- been withdrawn are here too, and so is what withdrew them.
with
tasks_of_runs as (
    select distinct
        run_id,
        task_id
    from events.evidence
),

stated as (
    select
        'evidence' as what,
        event_id,
        recorded_at,
        source,
        run_id,
        task_id,
        concat(role, ' ', kind, ' by ' || model) as detail
    from events.evidence
    union all
    select
        'score' as what,
        score.event_id,
        score.recorded_at,
        score.source,
        score.run_id,
        coalesce(score.task_id, evidence.task_id) as task_id,
        concat(
            score.scorer, ' ', score.scorer_version, ': ', score.category, ', ' || list_first(score.reasons)
        ) as detail
    from events.scores as score
    left join tasks_of_runs as evidence on score.run_id = evidence.run_id and score.task_id is null
    union all
    select
        'task' as what,
        event_id,
        recorded_at,
        source,
        null as run_id,
        task_id,
        concat('what the task says', ', split ' || split) as detail
    from events.tasks
),

withdrawn as (
    select
        retraction.event_id,
        stated.run_id,
        stated.task_id
    from events.retractions as retraction
    inner join stated on retraction.target = stated.event_id
    where retraction.target_type = 'event'
    union
    select
        retraction.event_id,
        stated.run_id,
        stated.task_id
    from events.retractions as retraction
    inner join stated on retraction.target = stated.run_id
    where retraction.target_type = 'run'
    union
    select
        retraction.event_id,
        stated.run_id,
        stated.task_id
    from events.retractions as retraction
    inner join stated on retraction.target = stated.source.file
    where retraction.target_type = 'source'
    union
    select
        event_id,
        null as run_id,
        target as task_id
    from events.retractions
    where target_type = 'task'
),

reached as (
    select
        event_id,
        run_id,
        task_id
    from withdrawn
    union
    select
        retraction.event_id,
        withdrawn.run_id,
        withdrawn.task_id
    from events.retractions as retraction
    inner join withdrawn on retraction.target = withdrawn.event_id
    where retraction.target_type = 'event'
)

select
    what,
    event_id,
    recorded_at,
    source,
    run_id,
    task_id,
    detail
from stated
union all
select
    'retraction' as what,
    retraction.event_id,
    retraction.recorded_at,
    retraction.source,
    reached.run_id,
    reached.task_id,
    concat(
        'withdraws the ', retraction.target_type, ' ', retraction.target, ', by ' || retraction.actor,
        ': ' || retraction.reason
    ) as detail
from reached
inner join events.retractions as retraction on reached.event_id = retraction.event_id
