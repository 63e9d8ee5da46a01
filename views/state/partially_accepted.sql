-- One row per run whose verdict is partially accepted
select *
from runs
where category = 'partially_accepted'
