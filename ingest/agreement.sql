-- One row per pair of categories that two scorers gave to the same runs, each by its newest version
with
newest as (
    select
        score.run_id,
        score.scorer,
        score.category,
        row_number() over (
            partition by score.run_id, score.scorer
            order by place.place desc, score.recorded_at desc nulls last, score.event_id desc
        ) as recency
    from scores as score
    inner join scorer_versions as place on score.scorer_version = place.scorer_version
    inner join asked on score.scorer in (asked.first_scorer, asked.second_scorer)
)

select
    one.category,
    other.category as other_category,
    count(*) as runs
from newest as one
inner join newest as other on one.run_id = other.run_id
inner join asked on one.scorer = asked.first_scorer and other.scorer = asked.second_scorer
where one.recency = 1 and other.recency = 1
group by one.category, other.category
order by one.category = other.category desc, runs desc, one.category asc, other.category asc
