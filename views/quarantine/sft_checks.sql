-- One row per record that sft considers, with its errors: reasons in the order in which they count, joined by commas;
-- '' is none. Only what a model put out is an example: executor and applier, and a reviewer whose run has a verdict.
with
categories as (
    select category
    from exportable_categories
    where dataset = 'sft'
)

select
    record.*,
    concat_ws(
        ',',
        nullif(record.faults, ''),
        case when record.role = 'extractor' then 'missing_source_run_id' end,
        case when allowed.category is null then 'unsafe_sft_category' end,
        case
            when
                record.role not in ('executor', 'applier', 'reviewer')
                or (record.role = 'reviewer' and record.category is null)
                then 'category_disallowed'
        end
    ) as errors
from records as record
left join categories as allowed on record.category = allowed.category
