-- One row per pending run, with the row that a relation has for it, as a struct that is null where it has none
select
    pending.run_id,
    pending.task_id,
    pending.event_id,
    pending.task_event_id,
    case when given.run_id is not null then given end as verdict
from pending
left join given on pending.run_id = given.run_id
