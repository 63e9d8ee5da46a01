-- One row per run whose verdict is rejected
select *
from runs
where category = 'rejected'
