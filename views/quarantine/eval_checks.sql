-- One row per task that eval considers, which are those registered for it, with its errors: reasons in the order in
-- which they count, joined by commas; '' is none. An answer is checked by tests, or against the one that is known.
select
    record.*,
    concat_ws(
        ',',
        nullif(record.faults, ''),
        case when strip(record.tests) = '' and strip(record.answer) = '' then 'missing_tests' end
    ) as errors
from task_records as record
where record.is_eval
