-- One row per task with evidence and without a preference pair, and why it has none
with
usable as (
    select
        task_id,
        count(*) as runs,
        count(case when category = 'accepted' then 1 end) as accepted
    from pairable_runs
    group by task_id
),

pairs as (
    select
        task_id,
        count(case when errors = '' then 1 end) as valid
    from pair_candidates
    group by task_id
),

counts as (
    select
        task_id,
        count(distinct run_id) as runs
    from evidence
    group by task_id
)

select
    counts.task_id,
    counts.runs,
    coalesce(usable.runs, 0) as usable,
    coalesce(usable.accepted, 0) as accepted,
    case
        when counts.runs < 2 then 'one_run'
        when coalesce(usable.runs, 0) < 2 then 'too_few_usable_runs'
        when usable.accepted = 0 then 'nothing_accepted'
        when usable.accepted = usable.runs then 'nothing_to_set_against'
        when pairs.task_id is null then 'no_common_prompt'
        else 'identical_texts'
    end as reason
from counts
left join usable on counts.task_id = usable.task_id
left join pairs on counts.task_id = pairs.task_id
where coalesce(pairs.valid, 0) = 0
