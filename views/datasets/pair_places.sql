-- One row per run that is looked at for pairs: of each task, prompt and category the first 2 x pairs_per_task runs,
-- taken round by round, one run of every text a round, so that no text comes twice before every text came once.
--
-- That many are enough. Let c be the cap, and both sides of a prompt be cut to their first 2c. If neither was longer,
-- nothing is lost. If one was, and the other has two texts, its first two places differ, so each of the 2c runs has a
-- partner that says something else: 2c valid pairs. If the other has one text, t, then rounds alternate t with
-- something else until one runs out, so of the 2c at least min(c, all) are not t: c valid pairs, or all there are.
with
rounds as (
    select
        *,
        row_number() over (partition by task_id, prompt_key, category, text_key order by run_id) as round
    from pairable_runs
),

placed as (
    select
        *,
        row_number() over (partition by task_id, prompt_key, category order by round, run_id) as place,
        count(*) over (partition by task_id, prompt_key, category) as side
    from rounds
)

select
    placed.task_id,
    placed.prompt_key,
    placed.category,
    placed.text_key,
    placed.run_id,
    placed.event_id,
    placed.score_event_id,
    placed.place - 1 as place,
    least(placed.side, 2 * policy.pairs_per_task) as side
from placed
cross join policy
where placed.place <= 2 * policy.pairs_per_task
