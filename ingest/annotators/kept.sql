-- One row per event that this version of this annotator has kept, which it has if its finding has no label
select
    'evidence' as kind,
    annotation.target as event_id,
    any_value(annotation.source.sha256) as basis
from events.annotations as annotation
inner join asked on annotation.annotator = asked.annotator and annotation.annotator_version = asked.version
where annotation.label is null
group by annotation.target
