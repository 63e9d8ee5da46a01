-- One row per preference of past training: as preference has its rows
-- Its task is its section, so that what one section says is never on both sides of a split.
select
    concat('replay-', held.section_id, '-', held.n) as id,
    held.prompt,
    held.chosen,
    held.rejected,
    concat('replay-', held.section_id) as task_id,
    held.section_id,
    held.n,
    seen.last_seen
from replay_rows as held
inner join replay_seen as seen on held.section_id = seen.section_id
where held.section_type = 'preference' and strip(held.chosen) <> strip(held.rejected)
