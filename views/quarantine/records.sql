-- One row per record that a dataset considers: an evidence event, or a scored run without evidence. Faults bar it from
-- every dataset: its own, and then those of the gates that the policy shuts.
select
    'event' as record_type,
    judged.event_id as record_id,
    judged.event_id,
    judged.recorded_at,
    judged.source,
    judged.run_id,
    judged.task_id,
    judged.kind,
    judged.role,
    judged.model,
    judged.stream,
    judged.extra,
    judged.messages,
    judged.tools,
    judged.own_prompt,
    judged.task_line,
    judged.response,
    judged.answer,
    judged.category,
    judged.score,
    judged.score_event_id,
    concat_ws(',', nullif(judged.faults, ''), gate.errors) as faults
from judged_evidence as judged
left join gate_faults as gate on judged.event_id = gate.event_id
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
