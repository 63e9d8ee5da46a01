-- One row per version of the registered eval tasks that holds now, which is one, or none where no task is registered.
-- The version is made from what the tasks say, so that telling them again changes nothing.
select
    substr(
        sha256(
            array_to_string(
                list_sort(
                    array_agg(
                        sha256(
                            concat_ws(
                                chr(31),
                                task_id,
                                coalesce(description, chr(30)),
                                coalesce(starter_code, chr(30)),
                                coalesce(tests, chr(30)),
                                coalesce(answer, chr(30))
                            )
                        )
                    )
                ),
                ','
            )
        ),
        1,
        16
    ) as eval_version,
    count(*) as tasks,  -- noqa: RF04
    max(recorded_at) as registered_at
from eval_tasks
having count(*) > 0
