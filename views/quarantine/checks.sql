-- One row per record that a dataset considers, with its errors for each dataset: reasons in the order in which they
-- count, joined by commas; '' is none. Only what a model put out is an example for sft: executor and applier, and a
-- reviewer whose run has a verdict. A run that a person must look at, or that has no verdict, is on no side of a pair.
with
sft_categories as (
    select category
    from exportable_categories
    where dataset = 'sft'
),

rag_categories as (
    select category
    from exportable_categories
    where dataset = 'rag'
)

select
    record.record_type,
    record.record_id,
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
    record.answer,
    record.category,
    record.score,
    record.score_event_id,
    record.faults,
    concat_ws(
        ',',
        nullif(record.faults, ''),
        case when record.role = 'extractor' then 'missing_source_run_id' end,
        case when sft_categories.category is null then 'unsafe_sft_category' end,
        case
            when
                record.role not in ('executor', 'applier', 'reviewer')
                or (record.role = 'reviewer' and record.category is null)
                then 'category_disallowed'
        end
    ) as sft_errors,
    concat_ws(
        ',', nullif(record.faults, ''), case when rag_categories.category is null then 'unsafe_rag_category' end
    ) as rag_errors,
    concat_ws(
        ',',
        nullif(record.faults, ''),
        case when coalesce(record.category, 'needs_human_review') = 'needs_human_review' then 'category_disallowed' end
    ) as preference_errors
from records as record
left join sft_categories on record.category = sft_categories.category
left join rag_categories on record.category = rag_categories.category
