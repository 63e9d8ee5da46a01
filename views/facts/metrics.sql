-- One row per report of a training run. Where a run went on from a checkpoint, what an earlier session of it had said
-- of the steps that were taken again is left out.
with
sessions as (
    select
        run,
        session,
        min(step) as first_step
    from events.metrics
    group by run, session
),

retaken as (
    select distinct told.event_id
    from events.metrics as told
    inner join sessions as later
        on told.run = later.run and told.session < later.session and told.step >= later.first_step
)

select
    report.event_id,
    report.recorded_at,
    report.schema_version,
    report.source,
    report.batch,
    report.run,
    report.what,
    report.step,
    report.session,
    report.loss,
    report.learning_rate,
    report.grad_norm,
    report.seconds,
    report.tokens,
    report.trained_tokens,
    report.tokens_per_second,
    report.data_wait,
    report.extra
from events.metrics as report
anti join retaken on report.event_id = retaken.event_id
