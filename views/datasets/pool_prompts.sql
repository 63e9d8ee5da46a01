-- One row per prompt of a pool, for a model to answer
select
    concat('prompts-', substr(sha256(concat(pool, chr(10), prompt_id, chr(10), domain)), 1, 16)) as id,
    text as prompt,
    messages,
    domain,
    language,
    words,
    prompt_id,
    pool,
    split,
    domain as task_id,
    source as provenance,
    event_id
from prompts_checks
where errors = ''
