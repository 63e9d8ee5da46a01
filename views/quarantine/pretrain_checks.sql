-- One row per record that pretrain considers, with its errors: reasons in the order in which they count, joined by
-- commas; '' is none. It considers documents, whether or not anybody judged them, and, under a policy that includes
-- completions, those too, which must be accepted. A document is one text: of a conversation only a part would be left.
with
categories as (
    select category
    from exportable_categories
    where dataset = 'pretrain'
)

select
    record.*,
    concat_ws(
        ',',
        nullif(record.faults, ''),
        case when record.kind = 'document' and record.messages is not null then 'conversation_as_document' end,
        case when record.category is not null and allowed.category is null then 'unsafe_pretrain_category' end,
        case
            when record.kind = 'completion' and record.category is distinct from 'accepted' then 'category_disallowed'
        end
    ) as errors
from records as record
cross join policy
left join categories as allowed on record.category = allowed.category
where record.kind = 'document' or (record.kind = 'completion' and policy.include_completions)
