-- One row per run with a verdict for or against it: a prompt, what the run answered, and whether that was wanted
select
    concat('kto-', substr(sha256(record.run_id), 1, 16)) as id,
    coalesce(record.own_prompt, task.prompt, record.task_line) as prompt,
    record.response as completion,  -- noqa: RF04
    record.label,
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
from kto_checks as record
left join task_prompts as task on record.task_id = task.task_id
where
    record.record_type = 'event'
    and record.category in ('accepted', 'partially_accepted', 'rejected')
    and record.errors = ''
