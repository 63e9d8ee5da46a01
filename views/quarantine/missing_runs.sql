-- One row per run that has a verdict and no evidence
select
    verdict.run_id,
    verdict.task_id,
    verdict.category,
    verdict.event_id,
    verdict.source,
    verdict.recorded_at
from verdicts as verdict
anti join evidence on verdict.run_id = evidence.run_id
