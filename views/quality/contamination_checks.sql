-- One row per event that was compared with the eval tasks as they are now: what it shares with them, as last found
with
told as (
    select
        annotation.event_id,
        annotation.target,
        annotation.run_id,
        annotation.task_id,
        annotation.label,
        annotation.value,
        annotation.spans,
        row_number() over (
            partition by annotation.target
            order by version.place desc, annotation.recorded_at desc nulls last, annotation.event_id desc
        ) as recency
    from annotations as annotation
    inner join eval_sets on annotation.against = eval_sets.eval_version
    inner join annotator_versions as version on annotation.annotator_version = version.annotator_version
    where annotation.annotator = 'contamination'
)

select
    target as event_id,
    run_id,
    task_id,
    label,
    value as overlap,
    spans,
    event_id as annotation_event_id
from told
where recency = 1
