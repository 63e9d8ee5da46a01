-- One row per run that may be looked up and quoted
select
    concat('rag-', substr(sha256(run_id), 1, 16)) as id,
    response as content,
    category as source_category,
    run_id as source_run_id,
    task_id,
    role,
    model,
    score as quality_score,
    recorded_at as created_at,
    source as provenance,
    event_id,
    score_event_id
from rag_checks
where
    record_type = 'event'
    and category in ('accepted', 'partially_accepted', 'needs_human_review')
    and errors = ''
