-- One row per task with tests that a policy may be trained on by reward
select
    concat('grpo-', substr(sha256(task_id), 1, 16)) as id,
    prompt,
    description,
    starter_code,
    tests,
    entry_point,
    coalesce(language, 'python') as language,  -- noqa: RF04
    split,
    task_id,
    recorded_at as created_at,
    source as provenance,
    event_id
from grpo_checks
where not is_eval and errors = ''
