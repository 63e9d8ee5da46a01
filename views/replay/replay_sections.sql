-- One row per section of past training, folded from its sightings, with what becomes of it
-- `state` is evicted (the budget has no room for it), reserved (for evaluation), excluded (its weight is 0, or it was
-- mined and such are not wanted) or active, which is what may be drawn.
with
terms as (
    select auto_mined as wants_mined
    from replay_policy
),

told as (
    select
        section_id,
        min(content) as content,
        list_sort(list_distinct(list(training_run) filter (where training_run is not null))) as training_runs,
        list_sort(list_distinct(list(document) filter (where document is not null))) as documents,
        max(
            case
                when auto_mined
                    then {
                        'mined_at': mined_at,
                        'mined_run_id': mined_run_id,
                        'judge_name': judge_name,
                        'judge_score_chosen': judge_score_chosen,
                        'judge_score_rejected': judge_score_rejected
                    }
            end
        ) as mined
    from replay
    group by section_id
)

select
    seen.section_id,
    seen.section_type,
    case
        when evicted.section_id is not null then 'evicted'
        when reserved.section_id is not null then 'reserved'
        when seen.weight <= 0 or (seen.auto_mined and not terms.wants_mined) then 'excluded'
        else 'active'
    end as state,
    seen.first_seen,
    seen.last_seen,
    seen.sightings,
    seen.weight,
    size.bytes,
    seen.auto_mined,
    told.mined,
    told.training_runs,
    told.documents,
    told.content
from replay_seen as seen
inner join told on seen.section_id = told.section_id
inner join replay_sizes as size on seen.section_id = size.section_id
left join replay_evicted as evicted on seen.section_id = evicted.section_id
left join replay_reserved as reserved on seen.section_id = reserved.section_id
cross join terms
