-- One row per prompt that a pool considers, in the order in which it takes them: `place` is its domain's among the
-- pool's, 0 for what is kept for evaluation, and null, with the reason, where it is of none
with
files as (
    select
        file,
        count(*) as domains,
        any_value(domain) as only_domain
    from file_domains
    group by file
),

asked as (
    select
        prompt.event_id,
        prompt.prompt_id,
        prompt.text,
        prompt.messages,
        prompt.language,
        prompt.split,
        prompt.domain as said,
        coalesce(prompt.domain, case when files.domains = 1 then files.only_domain end) as of_domain,
        files.file is not null as is_sourced,
        own.file is not null as is_own,
        kept.split is not null as is_of_evaluation
    from prompt_candidates as prompt
    left join kept_splits as kept on prompt.split = kept.split
    left join files on prompt.source.file = files.file
    left join file_domains as own on prompt.source.file = own.file and prompt.domain = own.domain
),

judged as (
    select
        asked.*,
        slot.place,
        asked.is_of_evaluation and not coalesce(slot.is_held, false) as is_evaluation,
        case
            when asked.is_of_evaluation and not coalesce(slot.is_held, false) then null
            when asked.of_domain is null then 'no_domain'
            when slot.domain is null and asked.is_sourced then 'wrong_domain'
            when slot.domain is null then 'other_domain'
            when asked.said is not null and asked.is_sourced and not asked.is_own then 'wrong_domain'
            when asked.said is not null and slot.has_sources and not asked.is_own then 'other_source'
        end as reason
    from asked
    left join slots as slot on asked.of_domain = slot.domain
)

select
    event_id,
    prompt_id,
    text,
    messages,
    language,
    split,
    of_domain,
    reason,
    case when is_evaluation then 0 when reason is null then place end as place
from judged
cross join plan
order by
    case when is_evaluation then 0 when reason is null then place end nulls last,
    sha256(concat(plan.seed, chr(10), of_domain, chr(10), prompt_id)),
    event_id
