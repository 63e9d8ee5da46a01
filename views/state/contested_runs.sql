-- One row per run with more than one score. Most runs have one, and it is their verdict: only these need an ordering.
select run_id
from scores
group by run_id
having count(*) > 1
