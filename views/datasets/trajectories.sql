-- One row per run of an agent that may be imitated: its conversation with tool calls and thinking, as it was
select
    concat('trajectories-', substr(sha256(run_id), 1, 16)) as id,
    coalesce(own_prompt, task_line) as instruction,
    messages,
    tools,
    run_id as source_run_id,
    task_id,
    category,
    role,
    model,
    score as quality_score,
    recorded_at as created_at,
    source as provenance,
    event_id,
    score_event_id
from trajectories_checks
where
    category in ('accepted', 'partially_accepted')
    and errors = ''
