-- One row per record considered for a dataset: each is in the dataset or in quarantine, and in one of them only.
-- A run that may stand in a pair is no record of preference by itself; the pairs looked at are.
select
    dataset,
    record_type,
    record_id
from dataset_checks
where dataset <> 'preference' or errors <> ''
union all
select
    'preference' as dataset,
    'pair' as record_type,
    id as record_id
from pair_candidates
