-- One row per task that grpo considers, with its errors: reasons in the order in which they count, joined by commas; ''
-- is none. An answer is rewarded by the task's own tests, so there must be some, and nothing that is measured with is
-- trained on.
select
    record.*,
    concat_ws(
        ',',
        nullif(record.faults, ''),
        case when record.is_eval then 'eval_task' end,
        barred.errors,
        case when strip(record.tests) = '' then 'missing_tests' end
    ) as errors
from task_records as record
left join barred_tasks as barred on record.task_id = barred.task_id and not record.is_eval
