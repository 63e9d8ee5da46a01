-- One row per scorer of a contested run: the score that counts, which is the newest of the scorer's newest version
with
told as (
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
            partition by score.run_id, score.scorer
            order by version.place desc, score.recorded_at desc nulls last, score.event_id desc
        ) as recency
    from scores as score
    inner join contested_runs as contested on score.run_id = contested.run_id
    inner join scorer_versions as version on score.scorer_version = version.scorer_version
)

select
    event_id,
    recorded_at,
    source,
    run_id,
    task_id,
    scorer,
    scorer_version,
    category,
    score,
    sub_scores,
    reasons,
    actor
from told
where recency = 1
