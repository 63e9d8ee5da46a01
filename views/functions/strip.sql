-- strip(value): the text without the white space around it. White space is what Unicode calls so, the 29 characters
-- that Python's str.strip() removes; "blank" and "the same text" everywhere mean this. The two look-ups come first
-- because hardly a text needs the trim, and the trim is ten times dearer.
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
        then trim(
            value,
            concat(
                chr(9), chr(10), chr(11), chr(12), chr(13), chr(28), chr(29), chr(30), chr(31), chr(32), chr(133),
                chr(160), chr(5760), chr(8192), chr(8193), chr(8194), chr(8195), chr(8196), chr(8197), chr(8198),
                chr(8199), chr(8200), chr(8201), chr(8202), chr(8232), chr(8233), chr(8239), chr(8287), chr(12288)
            )
        )
    else value
end;
