-- One row per record that kto considers, with its label and its errors: reasons in the order in which they count,
-- joined by commas; '' is none. Accepted is wanted, rejected is not; what is partially accepted has the label that the
-- policy gives it, or none. The same answer to the same prompt is not both.
with
labelled as (
    select
        record.*,
        case record.category
            when 'accepted' then true
            when 'rejected' then false
            when 'partially_accepted' then choice.partial_label
        end as label  -- noqa: RF04
    from records as record
    cross join policy_choices as choice
),

judged as (
    select
        *,
        concat_ws(
            ',',
            nullif(faults, ''),
            case when role = 'extractor' then 'missing_source_run_id' end,
            case
                when category is null then 'no_verdict'
                when category = 'needs_human_review' then 'needs_review'
                when label is null then 'partially_accepted'
            end,
            case when role not in ('executor', 'applier', 'reviewer') then 'category_disallowed' end
        ) as own_errors
    from labelled
),

contradicted as (
    select
        task_id,
        coalesce(md5(own_prompt), '') as prompt_key,
        md5(answer) as text_key
    from judged
    where own_errors = ''
    group by all
    having bool_or(label) and not bool_and(label)
)

select
    judged.*,
    case when contradicted.task_id is null then judged.own_errors else 'contradicted_label' end as errors
from judged
left join contradicted
    on
        judged.own_errors = ''
        and judged.task_id = contradicted.task_id
        and coalesce(md5(judged.own_prompt), '') = contradicted.prompt_key
        and md5(judged.answer) = contradicted.text_key
