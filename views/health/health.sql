-- One row per stage, dataset, source, category and reason: how many records came so far, or why they did not
with
judged as (
    select
        record.source.file as source,
        coalesce(record.category, 'unscored') as category,
        record.score_event_id
    from judged_evidence as record
    anti join superseded_evidence as older on record.event_id = older.event_id
),

exported as (
    select
        'sft' as dataset,
        provenance.file as source,
        category
    from sft
    union all
    select
        'rag' as dataset,
        provenance.file as source,
        source_category as category
    from rag
    union all
    select
        'preference' as dataset,
        provenance.chosen.file as source,
        'accepted' as category
    from preference
),

stages as (
    select
        'rejected input' as stage,
        null as dataset,
        source.file as source,
        null as category,
        reason
    from rejects
    union all
    select
        'evidence' as stage,
        null as dataset,
        source.file as source,
        null as category,
        null as reason
    from evidence
    union all
    select
        'run' as stage,
        null as dataset,
        source,
        category,
        null as reason
    from judged
    union all
    select
        'quarantined' as stage,
        dataset,
        source.file as source,
        null as category,
        reason
    from quarantine
    union all
    select
        'exported' as stage,
        dataset,
        source,
        category,
        null as reason
    from exported
    union all
    select
        'task without a pair' as stage,
        'preference' as dataset,
        null as source,
        null as category,
        reason
    from unpaired_tasks
)

select
    stage,
    dataset,
    source,
    category,
    reason,
    count(*) as records
from stages
group by stage, dataset, source, category, reason
