-- One row per run that says nothing, in its text or in its last turn: rejected. It has no verdict on the others.
-- version: 1
select
    run.run_id,
    'rejected' as category,
    0.0 as score,
    'there is no content' as reasons
from runs as run
inner join contents as content on run.event_id = content.event_id
where content.answer = ''
