-- One row per version of the registered eval tasks, which is one or none: how the evidence stands with it
with
counted as (
    select
        evidence.event_id,
        compared.event_id is not null as is_compared,
        contaminated.event_id is not null as is_contaminated
    from evidence
    anti join superseded_evidence as superseded on evidence.event_id = superseded.event_id
    left join contamination_checks as compared on evidence.event_id = compared.event_id
    left join contaminated on evidence.event_id = contaminated.event_id
)

select
    eval_sets.eval_version,
    any_value(eval_sets.tasks) as tasks,  -- noqa: RF04
    count(counted.event_id) as evidence,
    count(case when counted.is_compared then 1 end) as compared,
    count(case when counted.is_contaminated then 1 end) as contaminated
from eval_sets
left join counted on true
group by eval_sets.eval_version
