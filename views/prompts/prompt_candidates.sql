-- One row per prompt as it was ingested: what a pool may take
select
    event_id,
    recorded_at,
    source,
    prompt_id,
    text,
    messages,
    domain,
    language,
    split,
    extra
from prompts
where pool is null
