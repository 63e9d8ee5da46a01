-- One row per section of past training: how many bytes of UTF-8 its content has, and when it was seen last
-- The content itself is read only where nobody told its size.
with
sized as (
    select
        section_id,
        section_type,
        recorded_at,
        content_bytes as bytes
    from replay
    where content_bytes is not null
    union all
    select
        section_id,
        section_type,
        recorded_at,
        octet_length(encode(content)) as bytes
    from replay
    where content_bytes is null
)

select
    section_id,
    min(section_type) as section_type,
    coalesce(max(recorded_at), timestamptz '1970-01-01 00:00:00+00') as last_seen,
    max(bytes) as bytes
from sized
group by section_id
