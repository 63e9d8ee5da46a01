-- strip(value): the text without the white space around it. White space is what Unicode calls so, the 29 characters
-- that Python's str.strip() removes; "blank" and "the same text" everywhere mean this. The two look-ups come first
-- because hardly a text needs stripping, and looking costs next to nothing.
create macro strip(value) as
case
    when
        regexp_matches(
            value,
            '^[\x09-\x0d\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]'
        )
        or regexp_matches(
            value,
            '[\x09-\x0d\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]$'
        )
        then regexp_replace(
            regexp_replace(
                value,
                '^[\x09-\x0d\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+',
                ''
            ),
            '[\x09-\x0d\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+$',
            ''
        )
    else value
end;
