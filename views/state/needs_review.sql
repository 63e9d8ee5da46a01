-- One row per run whose verdict is that a person must look
select *
from runs
where category = 'needs_human_review'
