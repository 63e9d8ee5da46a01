-- One row per thing that one retraction or reject says or bears on
select
    'retraction' as what,
    concat(
        'withdraws the ', retraction.target_type, ' ', retraction.target, ', by ' || retraction.actor,
        ': ' || retraction.reason
    ) as detail,
    bearing.run_id,
    bearing.task_id,
    retraction.event_id,
    retraction.source.file as source_file,
    retraction.source.line as source_line,
    retraction.recorded_at
from events.retractions as retraction
left join bearings as bearing on retraction.event_id = bearing.event_id
where retraction.event_id = getvariable('ref')
union all
select
    'reject' as what,
    concat(kind, ' through ', reader, ': ', reason, ': ' || array_to_string(errors, '; ')) as detail,
    null as run_id,
    null as task_id,
    event_id,
    source.file as source_file,
    source.line as source_line,
    recorded_at
from events.rejects
where event_id = getvariable('ref')
order by task_id, run_id
