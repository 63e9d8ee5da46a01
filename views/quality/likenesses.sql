-- One row per evidence event that may stand for others, or they for it: what is looked at for duplicates. Those of one
-- `kin` are in the same datasets, as far as can be told. None are read unless one of the two gates is shut.
select
    judged.event_id,
    judged.task_id,
    judged.own_prompt,
    judged.task_line,
    judged.response,
    judged.messages,
    concat_ws(',', judged.kind, judged.role, coalesce(judged.category, ''), judged.faults) as kin
from judged_evidence as judged
inner join quality_policy as rules
    on (rules.exact_duplicate or rules.near_duplicate) = (judged.faults in ('', 'schema_violation'))
anti join lone_gates on judged.event_id = lone_gates.event_id
where rules.exact_duplicate or rules.near_duplicate
