-- One row per trajectory that has messages: what of its conversation no form can tell, as reasons in the order in which
-- they count, joined by commas; '' is none. An exporter renders whatever has none.
with
turns as (
    select *
    from trajectories_turns
),

calls as (
    select *
    from trajectories_calls
),

begins as (
    select
        task_id,
        event_id,
        min(case when role in ('system', 'developer') then null else place end) as place,
        max(stretch) as last_stretch
    from turns
    group by task_id, event_id
),

callers as (
    select
        task_id,
        event_id,
        place,
        bool_and(is_sound) as is_sound
    from calls
    group by task_id, event_id, place
),

spoken as (
    select
        turns.task_id,
        turns.event_id,
        bool_and(turns.is_message) as are_messages,
        bool_and(turns.is_text) as are_texts,
        bool_or(turns.role = 'assistant') as has_answer,
        bool_and(
            case
                when turns.place < begins.place then true
                when turns.place = begins.place then coalesce(turns.role = 'user', false)
                else coalesce(turns.role not in ('system', 'developer'), false)
            end
        ) as is_ordered,
        bool_and(turns.role <> 'assistant' or turns.says_something or callers.place is not null) as says_something,
        bool_and(coalesce(callers.is_sound, true)) as has_sound_calls
    from turns
    inner join begins on turns.task_id = begins.task_id and turns.event_id = begins.event_id
    left join callers
        on
            turns.task_id = callers.task_id
            and turns.event_id = callers.event_id
            and turns.place = callers.place
    group by turns.task_id, turns.event_id
),

answered as (
    select
        results.task_id,
        results.event_id,
        bool_or(results.is_nameless) as is_nameless,
        bool_or(results.is_unmatched) as is_unmatched,
        bool_or(results.results < results.calls and results.stretch < begins.last_stretch) as is_unanswered
    from trajectories_results as results
    inner join begins on results.task_id = begins.task_id and results.event_id = begins.event_id
    group by results.task_id, results.event_id
)

select
    spoken.task_id,
    spoken.event_id,
    concat_ws(
        ',',
        case when not coalesce(spoken.are_messages, false) then 'schema_violation' end,
        case when not coalesce(spoken.has_answer, false) then 'no_answer' end,
        case when not coalesce(spoken.is_ordered, false) then 'role_order' end,
        case when not coalesce(spoken.are_texts, false) then 'content_without_text' end,
        case when not coalesce(spoken.says_something, false) then 'empty_content' end,
        case when not coalesce(spoken.has_sound_calls, false) then 'bad_tool_call' end,
        case when answered.is_nameless then 'missing_tool_name' end,
        case when answered.is_unmatched and not answered.is_nameless then 'unmatched_tool_result' end,
        case when answered.is_unanswered then 'missing_tool_result' end
    ) as errors
from spoken
left join answered on spoken.task_id = answered.task_id and spoken.event_id = answered.event_id
