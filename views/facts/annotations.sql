-- One row per finding of an annotator that nobody has withdrawn
with
withdrawn as (
    select
        target_type,
        target
    from retractions
)

select
    annotation.event_id,
    annotation.recorded_at,
    annotation.schema_version,
    annotation.source,
    annotation.batch,
    annotation.target,
    annotation.run_id,
    annotation.task_id,
    annotation.annotator,
    annotation.annotator_version,
    annotation.label,
    annotation.value,
    annotation.spans,
    annotation.against,
    annotation.extra
from events.annotations as annotation
anti join withdrawn as by_event on by_event.target_type = 'event' and annotation.event_id = by_event.target
anti join withdrawn as by_run on by_run.target_type = 'run' and annotation.run_id = by_run.target
anti join withdrawn as by_task on by_task.target_type = 'task' and annotation.task_id = by_task.target
anti join withdrawn as by_source on by_source.target_type = 'source' and annotation.source.file = by_source.target
