-- One row per document whose text may be trained on as it is; category is null where nobody judged it
select
    concat('pretrain-', substr(sha256(run_id), 1, 16)) as id,
    response as text,  -- noqa: RF04
    coalesce(
        case when json_valid(extra) then nullif(strip(json_extract_string(extra, '$.domain')), '') end, stream
    ) as domain,  -- noqa: RF04
    kind,
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
from pretrain_checks
where
    kind in ('document', 'completion')
    and (category is null or category in ('accepted', 'partially_accepted', 'needs_human_review'))
    and errors = ''
