-- One row per record that could stand in a pair, an evidence event or a scored run without evidence, with its errors;
-- '' is none. A run that a person must look at, or that has no verdict, is on neither side of a pair.
select
    'event' as record_type,
    record.event_id as record_id,
    record.event_id,
    record.recorded_at,
    record.source,
    record.run_id,
    record.task_id,
    record.own_prompt,
    record.answer,
    record.category,
    record.score_event_id,
    concat_ws(
        ',',
        nullif(record.faults, ''),
        case when coalesce(record.category, 'needs_human_review') = 'needs_human_review' then 'category_disallowed' end
    ) as errors
from judged_evidence as record
union all
select
    'run' as record_type,
    missing.run_id as record_id,
    missing.event_id,
    missing.recorded_at,
    missing.source,
    missing.run_id,
    missing.task_id,
    null as own_prompt,
    null as answer,
    missing.category,
    missing.event_id as score_event_id,
    concat_ws(
        ',', 'missing_source_run_id', case when missing.category = 'needs_human_review' then 'category_disallowed' end
    ) as errors
from missing_runs as missing
