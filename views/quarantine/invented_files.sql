-- One row per evidence event that names a file which the policy's list does not know; none where it has no list
with
named as (
    select
        evidence.event_id,
        unnest(evidence.source_files) as path
    from evidence
    inner join policy on policy.check_files = (evidence.source_files is not null)
    where policy.check_files
)

select distinct named.event_id
from named
anti join known_files on named.path = known_files.path
where named.path is not null
