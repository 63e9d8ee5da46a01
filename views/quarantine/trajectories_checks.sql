-- One row per record that trajectories considers, with its errors: reasons in the order in which they count, joined by
-- commas; '' is none. A trajectory is imitated as a row of sft is, so the same categories are allowed; it may end with
-- a tool's result, so what is said of chats in general counts for nothing.
with
categories as (
    select category
    from exportable_categories
    where dataset = 'sft'
)

select
    record.*,
    concat_ws(
        ',',
        nullif(
            array_to_string(
                list_filter(
                    string_split(record.faults, ','),
                    lambda fault: fault not in ('', 'schema_violation', 'empty_content')
                ),
                ','
            ),
            ''
        ),
        case when faults.event_id is null or score.task_id <> record.task_id then 'schema_violation' end,
        case when allowed.category is null then 'unsafe_trajectory_category' end,
        case when record.role not in ('executor', 'applier', 'reviewer') then 'category_disallowed' end,
        nullif(faults.errors, ''),
        case
            when
                len(
                    list_filter(
                        list_transform(
                            json_extract(record.tools, '$[*]'),
                            lambda tool: case
                                when json_exists(tool, '$.function') then json_extract(tool, '$.function') else tool
                            end
                        ),
                        lambda tool: not coalesce(
                            json_type(tool, '$.name') = 'VARCHAR'
                            and regexp_full_match(json_extract_string(tool, '$.name'), '[A-Za-z0-9_.-]+')
                            and coalesce(json_type(tool, '$.parameters'), 'NULL') in ('OBJECT', 'NULL'),
                            false
                        )
                    )
                ) > 0
                then 'bad_tool_definition'
        end
    ) as errors
from records as record
left join trajectories_faults as faults on record.event_id = faults.event_id and record.task_id = faults.task_id
left join scores as score on record.score_event_id = score.event_id
left join categories as allowed on record.category = allowed.category
where record.record_type = 'event' and record.kind = 'trajectory'
