-- One row per run that may stand in a pair. Runs are set against each other only where they answer the same prompt:
-- `prompt_key` is that of their own prompt, '' for the task's; runs of one `text_key` say the same, white space aside.
select
    task_id,
    coalesce(md5(own_prompt), '') as prompt_key,
    category,
    md5(answer) as text_key,
    run_id,
    event_id,
    score_event_id
from preference_checks
where
    record_type = 'event'
    and category in ('accepted', 'partially_accepted', 'rejected')
    and errors = ''
