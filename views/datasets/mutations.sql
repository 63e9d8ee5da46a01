-- One row per fault that tests found: the code with it, what they said, and the code without it
select
    concat('mutations-', substr(sha256(run_id), 1, 16)) as id,
    buggy_code,
    error_message,
    fixed_code,
    repo,
    file,  -- noqa: RF04
    extent,
    nullif(outcome, '') as outcome,
    operator,
    language,  -- noqa: RF04
    run_id as source_run_id,
    task_id,
    recorded_at as created_at,
    source as provenance,
    event_id
from mutations_checks
where (category is null or category in ('accepted', 'partially_accepted')) and errors = ''
