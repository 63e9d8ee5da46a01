-- One row per preference pair with its margin: by how much the score of the chosen run exceeds that of the rejected one
select
    pair.id,
    preference.prompt,
    preference.chosen,
    preference.rejected,
    pair.margin,
    preference.schema_version,
    preference.reason,
    preference.chosen_run_id,
    preference.rejected_run_id,
    pair.task_id,
    preference.sig_hash,
    preference.created_at,
    preference.provenance,
    preference.chosen_event_id,
    preference.rejected_event_id
from ipo_pairs as pair
inner join preference on pair.pair_id = preference.id and pair.task_id = preference.task_id
where pair.errors = ''
