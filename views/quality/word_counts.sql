-- One row per evidence event with a text, and how many words its answer has. None are counted unless the gate is shut.
select
    content.event_id,
    word_count(content.answer) as words
from contents as content
inner join quality_policy on quality_policy.length = (content.answer <> '')
where quality_policy.length
