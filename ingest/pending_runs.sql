-- One row per pending run: the evidence, and the task as a struct that is null where none is known
select
    evidence.event_id,
    evidence.recorded_at,
    evidence.run_id,
    evidence.task_id,
    evidence.kind,
    evidence.role,
    evidence.model,
    evidence.stream,
    evidence.prompt,
    evidence.messages,
    evidence.text,
    evidence.source_files,
    evidence.extra,
    pending.task_event_id,
    case
        when told_task.task_id is not null
            then struct_pack(
                task_id := told_task.task_id,
                language := told_task.language,
                description := told_task.description,
                starter_code := told_task.starter_code,
                tests := told_task.tests,
                entry_point := told_task.entry_point,
                answer := told_task.answer,
                split := told_task.split,
                extra := told_task.extra
            )
    end as asked_task
from pending
inner join evidence on pending.event_id = evidence.event_id
left join tasks as told_task on pending.task_event_id = told_task.event_id
