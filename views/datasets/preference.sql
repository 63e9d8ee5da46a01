-- One row per pair of runs of one task and prompt, of which the verdicts accept one more than the other
select
    1 as schema_version,
    pair.id,
    coalesce(chosen.own_prompt, task.prompt, chosen.task_line) as prompt,
    chosen.response as chosen,
    rejected.response as rejected,
    concat(
        'accepted',
        ': ' || substr(list_first(chosen_score.reasons), 1, 80),
        ' | ',
        pair.rejected_category,
        ': ' || substr(list_first(rejected_score.reasons), 1, 80)
    ) as reason,
    pair.chosen_run_id,
    pair.rejected_run_id,
    pair.task_id,
    sha256(
        concat(
            least(pair.chosen_run_id, pair.rejected_run_id), '|', greatest(pair.chosen_run_id, pair.rejected_run_id)
        )
    ) as sig_hash,
    greatest(chosen.recorded_at, rejected.recorded_at) as created_at,
    { 'chosen': chosen.source, 'rejected': rejected.source } as provenance,
    pair.chosen_event_id,
    pair.rejected_event_id
from pair_candidates as pair
-- The task is told twice so that a question about some tasks reads the texts of those alone.
inner join contents as chosen on pair.chosen_event_id = chosen.event_id and pair.task_id = chosen.task_id
inner join contents as rejected on pair.rejected_event_id = rejected.event_id and pair.task_id = rejected.task_id
inner join scores as chosen_score on pair.chosen_score_event_id = chosen_score.event_id
inner join scores as rejected_score on pair.rejected_score_event_id = rejected_score.event_id
left join task_prompts as task on pair.task_id = task.task_id
where pair.errors = ''
