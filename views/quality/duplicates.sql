-- One row per evidence event that asks and answers what an earlier one of its kin does, white space aside: the event
-- that is kept, which is the first in the order of time and id
with
keyed as (
    select
        likeness.event_id,
        likeness.kin,
        md5(
            concat_ws(
                chr(31),
                regexp_replace(
                    strip(coalesce(likeness.own_prompt, task.prompt, likeness.task_line)), '\s+', ' ', 'g'
                ),
                regexp_replace(strip(likeness.response), '\s+', ' ', 'g'),
                likeness.messages
            )
        ) as content
    from likenesses as likeness
    left join task_prompts as task on likeness.task_id = task.task_id
),

placed as (
    select
        event_id,
        content,
        min(event_id) over (partition by kin, content) as kept_event_id
    from keyed
)

select
    event_id,
    kept_event_id,
    content
from placed
where event_id <> kept_event_id
