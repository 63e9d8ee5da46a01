-- One row per record of a fault: an evidence event of kind mutation, with both sides of it and what its tests said
with
told as (
    select
        record.*,
        case when json_valid(record.extra) then record.extra end as said
    from records as record
    where record.kind = 'mutation'
)

select
    told.record_type,
    told.record_id,
    told.run_id,
    told.task_id,
    told.category,
    told.event_id,
    told.source,
    told.recorded_at,
    told.faults,
    coalesce(json_extract_string(told.said, '$.buggy_code'), '') as buggy_code,
    coalesce(json_extract_string(told.said, '$.error_message'), '') as error_message,
    coalesce(json_extract_string(told.said, '$.fixed_code'), '') as fixed_code,
    coalesce(json_extract_string(told.said, '$.repo'), '') as repo,
    coalesce(json_extract_string(told.said, '$.file'), '') as file,  -- noqa: RF04
    coalesce(json_extract_string(told.said, '$.extent'), '') as extent,
    coalesce(json_extract_string(told.said, '$.outcome'), '') as outcome,
    json_extract_string(told.said, '$.operator') as operator,  -- noqa: RF04
    coalesce(json_extract_string(told.said, '$.language'), '') as language  -- noqa: RF04
from told
