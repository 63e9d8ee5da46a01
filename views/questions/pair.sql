-- One row per pair of this id
select
    chosen_run_id,
    rejected_run_id,
    task_id
from pair_candidates
where id = getvariable('ref')
