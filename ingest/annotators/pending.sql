-- One row per event that this version of this annotator has not looked at yet, in its order. What a finding was made
-- from is in its source's sha256: the event, the task that says what was asked where that counts, and what it was
-- compared with. Withdrawn findings count as told: the same version would only say the same again.
with
told as (
    select annotation.source.sha256 as basis
    from events.annotations as annotation
    inner join asked on annotation.annotator = asked.annotator and annotation.annotator_version = asked.version
    where annotation.source.sha256 is not null
),

newest_tasks as (
    select
        task_id,
        event_id,
        row_number() over (partition by task_id order by recorded_at desc nulls last, event_id desc) as recency
    from tasks
),

candidates as (
    select
        'evidence' as kind,
        evidence.event_id,
        case when asked.uses_task then newest.event_id end as task_event_id
    from evidence
    cross join asked
    anti join superseded_evidence on evidence.event_id = superseded_evidence.event_id
    left join newest_tasks as newest on evidence.task_id = newest.task_id and newest.recency = 1
    union all
    select
        'tasks' as kind,
        newest.event_id,
        null as task_event_id
    from newest_tasks as newest
    anti join eval_tasks on newest.event_id = eval_tasks.event_id
    where newest.recency = 1
    union all
    select
        'prompts' as kind,
        event_id,
        null as task_event_id
    from prompts
    union all
    select
        'replay' as kind,
        event_id,
        null as task_event_id
    from replay
)

select
    candidates.kind,
    candidates.event_id,
    sha256(concat_ws(' ', candidates.event_id, candidates.task_event_id, asked.against)) as basis
from candidates
inner join asked_kinds on candidates.kind = asked_kinds.kind
cross join asked
anti join told on sha256(concat_ws(' ', candidates.event_id, candidates.task_event_id, asked.against)) = told.basis
