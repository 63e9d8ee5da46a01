-- One row per annotator and event that it looked at: the finding that counts, the newest of its newest version
with
told as (
    select
        annotation.event_id,
        annotation.recorded_at,
        annotation.source,
        annotation.target,
        annotation.run_id,
        annotation.task_id,
        annotation.annotator,
        annotation.annotator_version,
        annotation.label,
        annotation.value,
        annotation.spans,
        annotation.against,
        annotation.extra,
        row_number() over (
            partition by annotation.target, annotation.annotator
            order by version.place desc, annotation.recorded_at desc nulls last, annotation.event_id desc
        ) as recency
    from annotations as annotation
    inner join annotator_versions as version on annotation.annotator_version = version.annotator_version
)

select
    event_id,
    recorded_at,
    source,
    target,
    run_id,
    task_id,
    annotator,
    annotator_version,
    label,
    value,
    spans,
    against,
    extra
from told
where recency = 1
