-- One row per run whose exported rows' ids end in these digits, with its task
select distinct
    run_id,
    task_id
from events.evidence
where substr(sha256(run_id), 1, 16) = getvariable('digits')
order by run_id
