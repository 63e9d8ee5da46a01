-- One row per record that domain considers, with its domain and its errors: reasons in the order in which they count,
-- joined by commas; '' is none. A record is of the domain that it says, or of its stream, or of its task's domain; one
-- without any is not considered.
with
categories as (
    select category
    from exportable_categories
    where dataset = 'sft'
),

placed as (
    select
        record.*,
        coalesce(
            case
                when json_valid(record.extra) then nullif(strip(json_extract_string(record.extra, '$.domain')), '')
            end,
            nullif(strip(record.stream), ''),
            task.of_domain
        ) as of_domain
    from records as record
    left join task_domains as task on record.task_id = task.task_id
)

select
    placed.*,
    concat_ws(
        ',',
        nullif(placed.faults, ''),
        case when placed.role = 'extractor' then 'missing_source_run_id' end,
        case when allowed.category is null then 'unsafe_domain_category' end,
        case when placed.role not in ('executor', 'applier', 'reviewer') then 'category_disallowed' end,
        case
            when choice.wanted_domain is not null and placed.of_domain <> choice.wanted_domain then 'other_domain'
        end
    ) as errors
from placed
cross join policy_choices as choice
left join categories as allowed on placed.category = allowed.category
where placed.of_domain is not null
