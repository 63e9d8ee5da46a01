-- One row per evidence event that names a licence, with whether the policy allows it. Of an SPDX expression, one of the
-- parts joined by OR has to be allowed, and all of those joined by AND; where both come, all of them. None are read
-- unless the gate is shut.
with
named as (
    select
        evidence.event_id,
        strip(
            coalesce(
                json_extract_string(evidence.extra, '$.licence'), json_extract_string(evidence.extra, '$.license')
            )
        ) as licence
    from evidence
    inner join quality_policy on quality_policy.licence = (evidence.extra is not null)
    where quality_policy.licence and json_valid(evidence.extra)
),

split as (
    select
        event_id,
        licence,
        regexp_matches(upper(licence), '\s+AND\s+') as needs_all,
        unnest(string_split_regex(regexp_replace(upper(licence), '[()]', '', 'g'), '\s+(OR|AND)\s+')) as part
    from named
    where licence <> ''
),

parts as (
    select
        event_id,
        licence,
        needs_all,
        regexp_replace(strip(part), '\s+WITH\s+.*$', '') as part
    from split
),

-- GPL-2.0-only is what a policy means by that name, and by GPL-2.0.
known as (
    select
        parts.event_id,
        parts.licence,
        parts.needs_all,
        parts.part,
        listed.is_denied,
        listed.licence in (parts.part, regexp_replace(parts.part, '(-ONLY|-OR-LATER|\+)$', '')) as is_it,
        starts_with(parts.part, listed.licence) as begins_so
    from parts
    left join known_licences as listed on true
),

judged as (
    select
        known.event_id,
        known.licence,
        known.needs_all,
        known.part,
        (coalesce(bool_or(not known.is_denied and known.is_it), false) or any_value(rules.allow_unknown))
        and not coalesce(bool_or(known.is_denied and known.begins_so), false) as is_allowed
    from known
    cross join quality_policy as rules
    group by known.event_id, known.licence, known.needs_all, known.part
)

select
    event_id,
    licence,
    case when needs_all then bool_and(is_allowed) else bool_or(is_allowed) end as is_allowed
from judged
group by event_id, licence, needs_all
