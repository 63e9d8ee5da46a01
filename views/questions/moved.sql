-- One row per event that only one of two databases, `old` and `new`, has, and what it bears on
select later.*
from new.bearings as later
anti join old.bearings as earlier on later.event_id = earlier.event_id
union all
select earlier.*
from old.bearings as earlier
anti join new.bearings as later on earlier.event_id = later.event_id
