-- word_count(said): how many words a text has. A word is a run of letters, digits and underscores, with apostrophes
-- inside it; of a script that is written without spaces each letter is one. Marks belong to the letter before them,
-- and are nothing where there is none.
create macro word_count(said) as
len(
    regexp_extract_all(
        regexp_replace(regexp_replace(said, '([\p{L}\p{N}_])\p{M}+', '\1', 'g'), '\p{M}', ' ', 'g'),
        '[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]'
    )
)
+ len(
    regexp_extract_all(
        regexp_replace(
            regexp_replace(regexp_replace(said, '([\p{L}\p{N}_])\p{M}+', '\1', 'g'), '\p{M}', ' ', 'g'),
            '[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]',
            ' ',
            'g'
        ),
        '[\p{L}\p{N}_]+([''’][\p{L}\p{N}_]+)*'
    )
)
