-- One row per section that the budget has room for
select
    seen.section_id,
    seen.section_type,
    seen.first_seen,
    seen.last_seen,
    seen.sightings,
    seen.weight,
    seen.auto_mined
from replay_seen as seen
anti join replay_evicted on seen.section_id = replay_evicted.section_id
