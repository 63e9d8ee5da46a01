-- One row per row of any dataset, with the runs that it is made of and a fingerprint of what it says
select
    'sft' as dataset,
    id,
    source_run_id as run_id,
    null as rejected_run_id,
    task_id,
    concat_ws(' ', event_id, score_event_id, category, md5(instruction), md5(response)) as fingerprint
from sft
union all
select
    'rag' as dataset,
    id,
    source_run_id as run_id,
    null as rejected_run_id,
    task_id,
    concat_ws(' ', event_id, score_event_id, source_category, md5(content)) as fingerprint
from rag
union all
select
    'pretrain' as dataset,
    id,
    source_run_id as run_id,
    null as rejected_run_id,
    task_id,
    concat_ws(' ', event_id, score_event_id, category, domain, md5(text)) as fingerprint
from pretrain
union all
select
    'preference' as dataset,
    id,
    chosen_run_id as run_id,
    rejected_run_id,
    task_id,
    concat_ws(
        ' ', chosen_event_id, rejected_event_id, md5(prompt), md5(chosen), md5(rejected), md5(reason)
    ) as fingerprint
from preference
union all
select
    'kto' as dataset,
    id,
    source_run_id as run_id,
    null as rejected_run_id,
    task_id,
    concat_ws(' ', event_id, score_event_id, category, label, md5(prompt), md5(completion)) as fingerprint
from kto
union all
select
    'domain' as dataset,
    id,
    source_run_id as run_id,
    null as rejected_run_id,
    task_id,
    concat_ws(' ', event_id, score_event_id, category, domain, md5(instruction), md5(response)) as fingerprint
from domain
union all
select
    'mutations' as dataset,
    id,
    source_run_id as run_id,
    null as rejected_run_id,
    task_id,
    concat_ws(' ', event_id, md5(buggy_code), md5(error_message), md5(fixed_code)) as fingerprint
from mutations
union all
select
    'grpo' as dataset,
    id,
    null as run_id,
    null as rejected_run_id,
    task_id,
    concat_ws(' ', event_id, md5(prompt), md5(tests)) as fingerprint
from grpo
union all
select
    'eval' as dataset,
    id,
    null as run_id,
    null as rejected_run_id,
    task_id,
    concat_ws(' ', event_id, md5(prompt), md5(tests), md5(answer)) as fingerprint
from eval
union all
select
    'trajectories' as dataset,
    id,
    source_run_id as run_id,
    null as rejected_run_id,
    task_id,
    concat_ws(' ', event_id, score_event_id, category, md5(messages), md5(tools)) as fingerprint
from trajectories
union all
select
    'ipo' as dataset,
    id,
    chosen_run_id as run_id,
    rejected_run_id,
    task_id,
    concat_ws(
        ' ', chosen_event_id, rejected_event_id, md5(prompt), md5(chosen), md5(rejected), cast(margin as varchar)
    ) as fingerprint
from ipo
