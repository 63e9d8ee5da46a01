-- tool_fault(steps): the first thing that is wrong with the tool calls and results of a conversation, '' if nothing is.
-- A step is a turn: whether it is a result, whether it names a call by its id, which one is wanted, and the calls it
-- opens. A result closes the first open call of its id or, without one, of its function; nobody else speaks before all
-- are closed.
-- noqa: disable=PRS,LT02,LT05
create macro tool_fault(steps) as
case
    when len(steps) > 0
        then list_reduce(
            steps,
            lambda past, step: {
                'is_result': step.is_result,
                'names_call': step.names_call,
                'wanted': step.wanted,
                'open': case
                    when not step.is_result then step.open
                    else list_filter(
                        past.open,
                        lambda one, place: place is distinct from list_position(
                            list_transform(
                                past.open,
                                lambda each: coalesce(
                                    case when step.names_call then each.id else each.tool_name end = step.wanted,
                                    false
                                )
                            ),
                            true
                        )
                    )
                end,
                'fault': case
                    when past.fault <> '' then past.fault
                    when not step.is_result then case when len(past.open) > 0 then 'missing_tool_result' else '' end
                    when not step.names_call and step.wanted is null then 'missing_tool_name'
                    when
                        len(
                            list_filter(
                                past.open,
                                lambda each: case when step.names_call then each.id else each.tool_name end
                                = step.wanted
                            )
                        ) = 0
                        then 'unmatched_tool_result'
                    else ''
                end
            }
        ).fault
end;
