-- One row per prompt of a pool; `is_standing` unless every event that the prompt was ingested with has been withdrawn
with
standing as (
    select distinct prompt_id
    from prompt_candidates
)

select
    prompt.pool,
    prompt.prompt_id,
    prompt.text,
    prompt.messages,
    prompt.domain,
    prompt.language,
    prompt.split,
    cast(json_extract_string(prompt.extra, '$.words') as bigint) as words,
    prompt.event_id,
    prompt.recorded_at,
    prompt.source,
    standing.prompt_id is not null as is_standing
from prompts as prompt
left join standing on prompt.prompt_id = standing.prompt_id
where prompt.pool is not null
