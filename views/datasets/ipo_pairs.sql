-- One row per preference pair looked at, with its margin, null where a score is missing, and its errors
select
    pair.id as pair_id,
    pair.task_id,
    pair.chosen_run_id,
    pair.chosen_event_id,
    concat('ipo-', substr(pair.id, 6)) as id,
    chosen.score - rejected.score as margin,
    concat_ws(
        ',',
        nullif(pair.errors, ''),
        case when not coalesce(isfinite(chosen.score - rejected.score), false) then 'missing_margin' end
    ) as errors
from pair_candidates as pair
inner join scores as chosen on pair.chosen_score_event_id = chosen.event_id
inner join scores as rejected on pair.rejected_score_event_id = rejected.event_id
