-- version_numbers(version): the numbers in a version, so that they compare as numbers of any length: 1.10 is after 1.9.
-- Written as length and digits they compare as text.
create macro version_numbers(version) as
list_transform(
    list_transform(regexp_extract_all(version, '[0-9]+'), lambda digits: regexp_replace(digits, '^0+', '')),
    lambda digits: concat(lpad(cast(length(digits) as varchar), 9, '0'), digits)
);
