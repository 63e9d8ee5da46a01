-- One row per run that nobody has judged yet
select *
from runs
where category is null
