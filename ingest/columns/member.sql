-- One member of an object as canonical JSON says it: null if the object has no such member.
-- `type` is the value's JSON type, null where the member is missing.
create or replace macro member(name, value, type) as (
    '"' || name || '":' || coalesce(to_json(value), case when type = 'NULL' then 'null' end)
);
