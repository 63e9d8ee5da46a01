-- One row per run that may be imitated in its domain; a document is a text by itself, and answers nothing
select
    concat('domain-', substr(sha256(record.run_id), 1, 16)) as id,
    record.of_domain as domain,  -- noqa: RF04
    record.kind = 'document' and record.own_prompt is null as is_document,
    coalesce(record.own_prompt, task.prompt, record.task_line) as instruction,
    record.response,
    record.messages,
    record.tools,
    record.run_id as source_run_id,
    record.task_id,
    record.category,
    record.role,
    record.model,
    record.score as quality_score,
    record.recorded_at as created_at,
    record.source as provenance,
    record.event_id,
    record.score_event_id
from domain_checks as record
left join task_prompts as task on record.task_id = task.task_id
where
    record.record_type = 'event'
    and record.category in ('accepted', 'partially_accepted')
    and record.errors = ''
