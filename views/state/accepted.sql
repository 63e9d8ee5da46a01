-- One row per run whose verdict is accepted
select *
from runs
where category = 'accepted'
