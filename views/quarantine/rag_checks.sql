-- One row per record that rag considers, with its errors: reasons in the order in which they count, joined by commas;
-- '' is none
with
categories as (
    select category
    from exportable_categories
    where dataset = 'rag'
)

select
    record.*,
    concat_ws(
        ',', nullif(record.faults, ''), case when allowed.category is null then 'unsafe_rag_category' end
    ) as errors
from records as record
left join categories as allowed on record.category = allowed.category
