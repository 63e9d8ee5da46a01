-- One row per prompt of the pool that the policy names, or else of the only pool there is, with its errors: reasons in
-- the order in which they count, joined by commas; '' is none. Of several pools one must be named. What is held back is
-- a pool of its own, whose id has the other's before a slash.
with
unnamed as (
    select count(distinct pool) as pools
    from pool_members
    where not contains(pool, '/')
)

select
    member.pool,
    member.prompt_id,
    member.text,
    member.messages,
    member.domain,
    member.language,
    member.split,
    member.words,
    member.event_id,
    member.recorded_at,
    member.source,
    concat_ws(
        ',',
        case when choice.wanted_pool is null and unnamed.pools > 1 then 'pool_not_named' end,
        case when not member.is_standing then 'withdrawn_prompt' end,
        case
            when coalesce(member.source.file, '') = '' or coalesce(member.source.sha256, '') = ''
                then 'missing_provenance'
        end,
        barred.errors
    ) as errors
from pool_members as member
cross join policy_choices as choice
cross join unnamed
left join barred_prompts as barred on member.event_id = barred.event_id
where member.pool = choice.wanted_pool or (choice.wanted_pool is null and not contains(member.pool, '/'))
