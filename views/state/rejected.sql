-- One row per run whose verdict is rejected
select
    run_id,
    task_id,
    kind,
    role,
    model,
    stream,
    prompt,
    messages,
    text,
    source_files,
    extra,
    category,
    score,
    sub_scores,
    scorer,
    scorer_version,
    reasons,
    scorers,
    dissenting,
    recorded_at,
    source,
    event_id,
    score_event_id
from runs
where category = 'rejected'
