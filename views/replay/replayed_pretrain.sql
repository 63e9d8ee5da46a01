-- One row per text of past training: as pretrain has its rows
select
    concat('replay-', held.section_id, '-', held.n) as id,
    held.prose as text,  -- noqa: RF04
    concat('replay-', held.section_id) as task_id,
    held.section_id,
    held.n,
    seen.last_seen
from replay_rows as held
inner join replay_seen as seen on held.section_id = seen.section_id
where held.section_type = 'prose'
