-- One row per record considered for rag, an evidence event or a scored run without evidence, with its errors; '' is
-- none
with
exportable as (
    select category
    from exportable_categories
    where dataset = 'rag'
)

select
    'event' as record_type,
    record.event_id as record_id,
    record.event_id,
    record.recorded_at,
    record.source,
    record.run_id,
    record.task_id,
    record.role,
    record.model,
    record.response,
    record.category,
    record.score,
    record.score_event_id,
    concat_ws(
        ',',
        nullif(record.faults, ''),
        case when exportable.category is null then 'unsafe_rag_category' end
    ) as errors
from judged_evidence as record
left join exportable on record.category = exportable.category
union all
select
    'run' as record_type,
    missing.run_id as record_id,
    missing.event_id,
    missing.recorded_at,
    missing.source,
    missing.run_id,
    missing.task_id,
    null as role,
    null as model,
    null as response,
    missing.category,
    null as score,
    missing.event_id as score_event_id,
    concat_ws(
        ',', 'missing_source_run_id', case when exportable.category is null then 'unsafe_rag_category' end
    ) as errors
from missing_runs as missing
left join exportable on missing.category = exportable.category
