-- is_json_object(value): whether a text is JSON of an object, by the standard. DuckDB's reader takes a comma too many,
-- and NaN and Infinity, for JSON; both are looked for outside of strings.
create macro is_json_object(value) as
case
    when not coalesce(json_valid(value), false) then false
    when json_type(value) <> 'OBJECT' then false
    else not regexp_matches(
        regexp_replace(value, '"(?:[^"\\]|\\.)*"', '""', 'g'), ',\s*[}\]]|[nN][aA][nN]|[iI][nN][fF]'
    )
end;
