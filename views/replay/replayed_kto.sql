-- One row per answer of past training, with whether it was wanted: as kto has its rows
-- What was answered was wanted; of a preference one side was and the other was not, so it is two rows.
with
answers as (
    select
        section_id,
        n,
        prompt,
        response as completion,  -- noqa: RF04
        true as label,  -- noqa: RF04
        messages,
        tools
    from replay_rows
    where section_type = 'instruction'
    union all
    select
        section_id,
        n * 2 as n,
        prompt,
        chosen as completion,  -- noqa: RF04
        true as label,  -- noqa: RF04
        null as messages,
        null as tools
    from replay_rows
    where section_type = 'preference'
    union all
    select
        section_id,
        n * 2 + 1 as n,
        prompt,
        rejected as completion,  -- noqa: RF04
        false as label,  -- noqa: RF04
        null as messages,
        null as tools
    from replay_rows
    where section_type = 'preference'
)

select
    concat('replay-', held.section_id, '-', held.n) as id,
    held.prompt,
    held.completion,
    held.label,
    held.messages,
    held.tools,
    concat('replay-', held.section_id) as task_id,
    held.section_id,
    held.n,
    seen.last_seen
from answers as held
inner join replay_seen as seen on held.section_id = seen.section_id
