-- One row per task that goes by an id, its own or that of an event of it
select task_id
from events.tasks
where task_id = getvariable('ref') or event_id = getvariable('ref')
union
select task_id
from events.evidence
where task_id = getvariable('ref')
