-- One row per record considered for sft, an evidence event or a scored run without evidence, with its errors; '' is
-- none. Only what a model put out is an example: executor and applier, and a reviewer whose run has a verdict.
with
exportable as (
    select category
    from exportable_categories
    where dataset = 'sft'
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
    record.messages,
    record.tools,
    record.own_prompt,
    record.task_line,
    record.response,
    record.category,
    record.score,
    record.score_event_id,
    concat_ws(
        ',',
        nullif(record.faults, ''),
        case when record.role = 'extractor' then 'missing_source_run_id' end,
        case when exportable.category is null then 'unsafe_sft_category' end,
        case
            when
                record.role not in ('executor', 'applier', 'reviewer')
                or (record.role = 'reviewer' and record.category is null)
                then 'category_disallowed'
        end
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
    null as messages,
    null as tools,
    null as own_prompt,
    null as task_line,
    null as response,
    missing.category,
    null as score,
    missing.event_id as score_event_id,
    concat_ws(
        ',', 'missing_source_run_id', case when exportable.category is null then 'unsafe_sft_category' end
    ) as errors
from missing_runs as missing
left join exportable on missing.category = exportable.category
