-- One row per pool and domain: how many prompts it has, and in how many languages
select
    pool,
    domain,
    count(*) as prompts,
    count(distinct language) as languages,
    min(words) as fewest_words,
    max(words) as most_words,
    coalesce(bool_and(split = 'eval'), false) as is_evaluation
from pool_members
where is_standing
group by pool, domain
