-- One row per evidence event that a gate bars for what it is by itself: reasons in the order in which they count,
-- joined by commas. An event that a shut gate needs to know something of, and nobody has looked at, is barred too.
with
asked as (
    select
        evidence.event_id,
        evidence.task_id
    from evidence
    inner join quality_policy as rules
        on
            (rules.contamination or rules.pii or rules.licence or rules.language or rules.length)
            = (evidence.event_id is not null)
),

barred as (
    select
        asked.event_id,
        concat_ws(
            ',',
            case when rules.contamination and contaminated.event_id is not null then 'contaminated' end,
            case
                when
                    rules.contamination
                    and contaminated.event_id is null
                    and compared.event_id is null
                    then 'contamination_unchecked'
            end,
            case when rules.pii and personal.label <> 'none' then 'pii' end,
            case when rules.pii and personal.target is null then 'pii_unchecked' end,
            case when rules.licence and not licence.is_allowed then 'licence_denied' end,
            case
                when rules.language and spoken.target is not null and allowed.language is null
                    then 'language_disallowed'
            end,
            case when rules.language and spoken.target is null then 'language_unchecked' end,
            case when counted.words < rules.min_words then 'too_short' end,
            case when counted.words > rules.max_words then 'too_long' end
        ) as errors
    from asked
    cross join quality_policy as rules
    left join contaminated on asked.event_id = contaminated.event_id
    left join contamination_checks as compared on asked.event_id = compared.event_id
    left join findings as personal on asked.event_id = personal.target and personal.annotator = 'pii'
    left join named_licences as licence on asked.event_id = licence.event_id
    left join findings as spoken on asked.event_id = spoken.target and spoken.annotator = 'language'
    left join allowed_languages as allowed on spoken.label = allowed.language
    left join word_counts as counted on asked.event_id = counted.event_id
)

select
    event_id,
    errors
from barred
where errors <> ''
