-- One row per registered task that models are measured with, and that no training set holds
select
    concat('eval-', substr(sha256(task_id), 1, 16)) as id,
    prompt,
    description,
    starter_code,
    tests,
    entry_point,
    answer,
    language,  -- noqa: RF04
    split,
    task_id,
    recorded_at as created_at,
    source as provenance,
    event_id
from eval_checks
where is_eval and errors = ''
