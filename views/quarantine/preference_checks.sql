-- One row per record that may stand in a pair, with its errors: reasons in the order in which they count, joined by
-- commas; '' is none. A run that a person must look at, or that has no verdict, is on no side of a pair.
select
    *,
    concat_ws(
        ',',
        nullif(faults, ''),
        case when coalesce(category, 'needs_human_review') = 'needs_human_review' then 'category_disallowed' end
    ) as errors
from records
