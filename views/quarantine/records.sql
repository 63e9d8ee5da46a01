-- One row per record that a dataset considers: an evidence event, or a scored run without evidence. Faults bar it from
-- every dataset.
select
    'event' as record_type,
    event_id as record_id,
    event_id,
    recorded_at,
    source,
    run_id,
    task_id,
    kind,
    role,
    model,
    stream,
    extra,
    messages,
    tools,
    own_prompt,
    task_line,
    response,
    answer,
    category,
    score,
    score_event_id,
    faults
from judged_evidence
union all
select
    'run' as record_type,
    run_id as record_id,
    event_id,
    recorded_at,
    source,
    run_id,
    task_id,
    null as kind,
    null as role,
    null as model,
    null as stream,  -- noqa: RF04
    null as extra,
    null as messages,
    null as tools,
    null as own_prompt,
    null as task_line,
    null as response,
    null as answer,
    category,
    null as score,
    event_id as score_event_id,
    'missing_source_run_id' as faults
from missing_runs
