-- One row per stretch of a trajectory that has calls or results, and whether they belong together. A result names its
-- call by an id or its function by a name, all of a stretch in the same way, and no call has more results than one.
with
results as (
    select
        task_id,
        event_id,
        stretch,
        names_call,
        case when names_call then call_id else tool_name end as answers_to
    from trajectories_turns
    where is_result
),

calls as (
    select
        task_id,
        event_id,
        stretch,
        call_id,
        tool_name
    from trajectories_calls
),

named as (
    select
        task_id,
        event_id,
        stretch,
        true as names_call,
        call_id as answers_to
    from calls
    union all
    select
        task_id,
        event_id,
        stretch,
        false as names_call,
        tool_name as answers_to
    from calls
),

open_calls as (
    select
        task_id,
        event_id,
        stretch,
        names_call,
        answers_to,
        count(*) as number
    from named
    group by task_id, event_id, stretch, names_call, answers_to
),

given_results as (
    select
        task_id,
        event_id,
        stretch,
        names_call,
        answers_to,
        count(*) as number
    from results
    group by task_id, event_id, stretch, names_call, answers_to
),

matched as (
    select
        given_results.task_id,
        given_results.event_id,
        given_results.stretch,
        given_results.number as results,
        given_results.names_call,
        case when given_results.answers_to is null and not given_results.names_call then 1 else 0 end as nameless,
        case when given_results.number > coalesce(open_calls.number, 0) then 1 else 0 end as unmatched
    from given_results
    left join open_calls
        on
            given_results.task_id = open_calls.task_id
            and given_results.event_id = open_calls.event_id
            and given_results.stretch = open_calls.stretch
            and given_results.names_call = open_calls.names_call
            and given_results.answers_to = open_calls.answers_to
),

answers as (
    select
        task_id,
        event_id,
        stretch,
        sum(results) as results,
        max(nameless) as nameless,
        greatest(max(unmatched), case when min(names_call) <> max(names_call) then 1 else 0 end) as unmatched
    from matched
    group by task_id, event_id, stretch
),

asked as (
    select
        task_id,
        event_id,
        stretch,
        count(*) as calls
    from calls
    group by task_id, event_id, stretch
)

select
    coalesce(asked.task_id, answers.task_id) as task_id,
    coalesce(asked.event_id, answers.event_id) as event_id,
    coalesce(asked.stretch, answers.stretch) as stretch,
    coalesce(asked.calls, 0) as calls,
    coalesce(answers.results, 0) as results,
    coalesce(answers.nameless, 0) = 1 as is_nameless,
    coalesce(answers.unmatched, 0) = 1 as is_unmatched
from asked
full join answers
    on asked.task_id = answers.task_id and asked.event_id = answers.event_id and asked.stretch = answers.stretch
