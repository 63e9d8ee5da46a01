-- One row per section of past training that the gate against contamination bars: it overlaps an eval task, or nobody
-- compared it
select
    section.section_id,
    case
        when max(compared.label) = 'overlap' then 'contaminated' else 'contamination_unchecked'
    end as errors
from replay as section
inner join quality_policy as rules on rules.contamination = (section.event_id is not null)
left join contamination_checks as compared on section.event_id = compared.event_id
where rules.contamination
group by section.section_id
having coalesce(max(compared.label), 'overlap') = 'overlap'
