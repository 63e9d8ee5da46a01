-- One row per run caught in a loop: one line of at least three characters makes up 20 lines of it or more, and most of
-- them. Rejected. It has no verdict on the others.
-- version: 1
with
lines as (
    select
        run.run_id,
        unnest(string_split(content.answer, chr(10))) as line
    from runs as run
    inner join contents as content on run.event_id = content.event_id
),

counts as (
    select
        run_id,
        strip(line) as line,
        count(*) as repeats
    from lines
    where length(strip(line)) >= 3
    group by run_id, strip(line)
),

totals as (
    select
        run_id,
        sum(repeats) as lines,
        max(repeats) as most
    from counts
    group by run_id
)

select
    run_id,
    'rejected' as category,
    0.0 as score,
    concat('one line makes up ', most, ' of ', lines) as reasons,
    struct_pack(lines := lines, repeats := most) as sub_scores
from totals
where most >= 20 and 2 * most > lines
