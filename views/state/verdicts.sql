-- One row per run that has a score: the verdict that counts. The scorers that the policy lists come first, in its
-- order; all others rank equal after them, and among equals the most cautious category wins.
with
ranked as (
    select
        score.event_id,
        score.recorded_at,
        score.source,
        score.run_id,
        score.task_id,
        score.scorer,
        score.scorer_version,
        score.category,
        score.score,
        score.sub_scores,
        score.reasons,
        score.actor,
        row_number() over (
            partition by score.run_id
            order by
                precedence.place asc nulls last,
                case score.category
                    when 'rejected' then 1
                    when 'needs_human_review' then 2
                    when 'partially_accepted' then 3
                    else 4
                end asc,
                score.event_id desc
        ) as rank,
        count(*) over (partition by score.run_id) as scorers,
        count(*) over (partition by score.run_id, score.category) as agreeing
    from scorer_verdicts as score
    left join precedence on score.scorer = precedence.scorer
)

select
    run_id,
    task_id,
    category,
    score,
    sub_scores,
    scorer,
    scorer_version,
    reasons,
    actor,
    recorded_at,
    source,
    event_id,
    scorers,
    scorers - agreeing as dissenting
from ranked
where rank = 1
union all
select
    score.run_id,
    score.task_id,
    score.category,
    score.score,
    score.sub_scores,
    score.scorer,
    score.scorer_version,
    score.reasons,
    score.actor,
    score.recorded_at,
    score.source,
    score.event_id,
    1 as scorers,
    0 as dissenting
from scores as score
anti join contested_runs as contested on score.run_id = contested.run_id
