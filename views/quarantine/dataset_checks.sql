-- One row per dataset and record that it considers, with the record's errors for it; '' is none
with
datasets as (
    select 'sft' as dataset
    union all
    select 'rag' as dataset
    union all
    select 'preference' as dataset
)

select
    datasets.dataset,
    record.record_type,
    record.record_id,
    record.run_id,
    record.task_id,
    record.category,
    record.event_id,
    record.source,
    record.recorded_at,
    case datasets.dataset
        when 'sft' then record.sft_errors
        when 'rag' then record.rag_errors
        else record.preference_errors
    end as errors
from checks as record
cross join datasets
