-- One row per prompt that was taken, in order, as the event that says so
select
    prompt.prompt_id,
    prompt.text,
    prompt.messages,
    taken.domain,
    taken.language,
    coalesce(taken.split, prompt.split) as split,
    taken.pool,
    taken.extra,
    prompt.source
from taken
inner join prompt_candidates as prompt on taken.event_id = prompt.event_id
order by taken.number
