-- One row per category that a dataset may hold under the policy. Rejected is in none of them, whatever the policy.
select
    'sft' as dataset,
    'accepted' as category
union all
select
    'sft' as dataset,
    'partially_accepted' as category
from policy
where include_partial
union all
select
    'rag' as dataset,
    'accepted' as category
union all
select
    'rag' as dataset,
    'partially_accepted' as category
union all
select
    'rag' as dataset,
    'needs_human_review' as category
from policy
where include_review
union all
select
    'pretrain' as dataset,
    'accepted' as category
union all
select
    'pretrain' as dataset,
    'partially_accepted' as category
union all
select
    'pretrain' as dataset,
    'needs_human_review' as category
from policy
where include_review
