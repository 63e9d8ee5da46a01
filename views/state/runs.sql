-- One row per run that left evidence: the newest of it, with its verdict; category is null where there is none yet
select
    evidence.run_id,
    evidence.task_id,
    evidence.kind,
    evidence.role,
    evidence.model,
    evidence.stream,
    evidence.prompt,
    evidence.messages,
    evidence.text,
    evidence.source_files,
    evidence.extra,
    verdict.category,
    verdict.score,
    verdict.sub_scores,
    verdict.scorer,
    verdict.scorer_version,
    verdict.reasons,
    verdict.scorers,
    verdict.dissenting,
    evidence.recorded_at,
    evidence.source,
    evidence.event_id,
    verdict.event_id as score_event_id
from evidence
left join verdicts as verdict on evidence.run_id = verdict.run_id
anti join superseded_evidence on evidence.event_id = superseded_evidence.event_id
