-- One row per dataset and record that it considers, with the record's errors for it; '' is none
select
    'sft' as dataset,
    record_type,
    record_id,
    run_id,
    task_id,
    category,
    event_id,
    source,
    recorded_at,
    errors
from sft_checks
union all
select
    'rag' as dataset,
    record_type,
    record_id,
    run_id,
    task_id,
    category,
    event_id,
    source,
    recorded_at,
    errors
from rag_checks
union all
select
    'preference' as dataset,
    record_type,
    record_id,
    run_id,
    task_id,
    category,
    event_id,
    source,
    recorded_at,
    errors
from preference_checks
union all
select
    'pretrain' as dataset,
    record_type,
    record_id,
    run_id,
    task_id,
    category,
    event_id,
    source,
    recorded_at,
    errors
from pretrain_checks
union all
select
    'trajectories' as dataset,
    record_type,
    record_id,
    run_id,
    task_id,
    category,
    event_id,
    source,
    recorded_at,
    errors
from trajectories_checks
union all
select
    'ipo' as dataset,
    record_type,
    record_id,
    run_id,
    task_id,
    category,
    event_id,
    source,
    recorded_at,
    errors
from ipo_checks
union all
select
    'kto' as dataset,
    record_type,
    record_id,
    run_id,
    task_id,
    category,
    event_id,
    source,
    recorded_at,
    errors
from kto_checks
union all
select
    'domain' as dataset,
    record_type,
    record_id,
    run_id,
    task_id,
    category,
    event_id,
    source,
    recorded_at,
    errors
from domain_checks
union all
select
    'prompts' as dataset,
    'prompt' as record_type,
    event_id as record_id,
    null as run_id,
    null as task_id,
    null as category,
    event_id,
    source,
    recorded_at,
    errors
from prompts_checks
union all
select
    'mutations' as dataset,
    record_type,
    record_id,
    run_id,
    task_id,
    category,
    event_id,
    source,
    recorded_at,
    errors
from mutations_checks
union all
select
    'grpo' as dataset,
    record_type,
    record_id,
    run_id,
    task_id,
    category,
    event_id,
    source,
    recorded_at,
    errors
from grpo_checks
union all
select
    'eval' as dataset,
    record_type,
    record_id,
    run_id,
    task_id,
    category,
    event_id,
    source,
    recorded_at,
    errors
from eval_checks
