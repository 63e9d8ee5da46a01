-- One row per section of past training: how many bytes of UTF-8 its content has
with
told as (
    select
        section_id,
        content_bytes as bytes
    from replay
    where content_bytes is not null
),

counted as (
    select
        section_id,
        octet_length(encode(content)) as bytes
    from replay
    where content_bytes is null
),

all_told as (
    select
        section_id,
        bytes
    from told
    union all
    select
        section_id,
        bytes
    from counted
)

select
    section_id,
    max(bytes) as bytes
from all_told
group by section_id
