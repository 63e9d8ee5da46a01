-- One row per task whose exported rows' ids end in these digits
select distinct task_id
from events.tasks
where substr(sha256(task_id), 1, 16) = getvariable('digits')
order by task_id
