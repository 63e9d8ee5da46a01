-- One row per prompt event that the gate against contamination bars: it overlaps an eval task, or nobody compared it
select
    prompt.event_id,
    case when compared.label = 'overlap' then 'contaminated' else 'contamination_unchecked' end as errors
from prompts as prompt
inner join quality_policy as rules on rules.contamination = (prompt.event_id is not null)
left join contamination_checks as compared on prompt.event_id = compared.event_id
where rules.contamination and coalesce(compared.label, 'overlap') = 'overlap'
