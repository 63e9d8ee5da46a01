-- One row per fault that mutations considers, with its errors: reasons in the order in which they count, joined by
-- commas; '' is none. Nobody need have judged a fault, for its tests have; where somebody did, the verdict holds. One
-- side that is more than four times as long as the other, and by more than a few lines, is not of the same extent.
select
    *,
    concat_ws(
        ',',
        nullif(faults, ''),
        case when category in ('rejected', 'needs_human_review') then 'unsafe_mutations_category' end,
        case when strip(buggy_code) = '' then 'missing_buggy_code' end,
        case when strip(fixed_code) = '' then 'missing_fixed_code' end,
        case when strip(error_message) = '' then 'missing_error_message' end,
        case when repo = '' or file = '' then 'missing_file' end,
        case when outcome not in ('', 'caught', 'unviable') then 'fault_not_found' end,
        case when extent not in ('file', 'snippet') then 'unknown_extent' end,
        case when strip(buggy_code) = strip(fixed_code) and strip(fixed_code) <> '' then 'same_code' end,
        case
            when
                length(strip(buggy_code)) > 0 and length(strip(fixed_code)) > 0
                and abs(length(buggy_code) - length(fixed_code)) > 200
                and greatest(length(buggy_code), length(fixed_code)) > 4 * least(length(buggy_code), length(fixed_code))
                then 'extent_mismatch'
        end
    ) as errors
from mutation_records
