-- One row per pair looked at: those that are valid, at most pairs_per_task a task, and those refused, with errors.
-- A task's accepted runs are set against its rejected ones, and against the partially accepted ones only where that
-- gives nothing. Pairs count along the diagonals of the grid of places, so that each lap of the longer side uses every
-- run of it once and those of the shorter side in turn.
with
places as (
    select *
    from pair_places
),

-- Two texts among both sides of a prompt make a valid pair, wherever they are.
settled as (
    select task_id
    from places
    where category in ('accepted', 'rejected')
    group by task_id, prompt_key
    having min(category) <> max(category) and min(text_key) <> max(text_key)
),

rivals as (
    select *
    from places
    where category = 'rejected'
    union all
    select places.*
    from places
    anti join settled on places.task_id = settled.task_id
    where places.category = 'partially_accepted'
),

grid as (
    select
        chosen.task_id,
        chosen.prompt_key,
        chosen.run_id as chosen_run_id,
        rival.run_id as rejected_run_id,
        chosen.event_id as chosen_event_id,
        rival.event_id as rejected_event_id,
        chosen.score_event_id as chosen_score_event_id,
        rival.score_event_id as rejected_score_event_id,
        rival.category as rejected_category,
        case
            when chosen.side <= rival.side
                then mod(chosen.place - rival.place + chosen.side * rival.side, chosen.side) * rival.side + rival.place
            else mod(rival.place - chosen.place + chosen.side * rival.side, rival.side) * chosen.side + chosen.place
        end as number,
        concat_ws(
            ',',
            case when chosen.run_id = rival.run_id then 'self_pairing' end,
            case when chosen.text_key = rival.text_key then 'invalid_preference_pairing' end
        ) as errors
    from places as chosen
    inner join rivals as rival
        on chosen.task_id = rival.task_id and chosen.prompt_key = rival.prompt_key
    where chosen.category = 'accepted'
),

numbered as (
    select
        *,
        row_number() over (partition by task_id, errors order by number, prompt_key) as turn
    from grid
)

select
    numbered.task_id,
    numbered.chosen_run_id,
    numbered.rejected_run_id,
    numbered.chosen_event_id,
    numbered.rejected_event_id,
    numbered.chosen_score_event_id,
    numbered.rejected_score_event_id,
    numbered.rejected_category,
    numbered.errors,
    concat(
        'pref-',
        substr(
            sha256(concat(numbered.chosen_run_id, '|', numbered.rejected_run_id, '|', numbered.task_id)), 1, 16
        )
    ) as id
from numbered
cross join policy
where numbered.errors <> '' or numbered.turn <= policy.pairs_per_task
