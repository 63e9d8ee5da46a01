-- One row per evidence event: its content, its run's verdict, and the faults that bar it from every dataset.
-- Faults are reasons in the order in which they count, joined by commas; '' is none.
select
    content.event_id,
    content.recorded_at,
    content.source,
    content.run_id,
    content.task_id,
    content.kind,
    content.role,
    content.model,
    content.stream,
    content.extra,
    content.source_files,
    content.messages,
    content.tools,
    content.own_prompt,
    content.task_line,
    content.response,
    content.answer,
    verdict.category,
    verdict.score,
    verdict.event_id as score_event_id,
    concat_ws(
        ',',
        case when superseded.event_id is not null then 'duplicate_id' end,
        case
            when
                coalesce(content.source.file, '') = '' or coalesce(content.source.sha256, '') = ''
                then 'missing_provenance'
        end,
        case when not content.is_chat or verdict.task_id <> content.task_id then 'schema_violation' end,
        case when content.answer = '' then 'empty_content' end,
        case when invented.event_id is not null then 'hallucinated_file_path' end
    ) as faults
from contents as content
left join verdicts as verdict on content.run_id = verdict.run_id
left join superseded_evidence as superseded on content.event_id = superseded.event_id
left join invented_files as invented on content.event_id = invented.event_id
