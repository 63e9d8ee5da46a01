"""The grammar of sections: their ids, the rows in them, and what is said of one that is broken."""

import hashlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.replay.documents import sections_of
from ingest.replay.sections import Malformed, normalised, pairs, rows_of, section_id, trimmed, triples, written
from lake.kinds import SECTION_TYPES

TEXTS = st.text(min_size=1).filter(str.strip)
PAIR = "### Q\nwhat?\n### A\nthat.\n"
TRIPLE = "### Prompt\np\n### Chosen\nc\n### Rejected\nr\n"


@pytest.mark.parametrize("section_type", SECTION_TYPES)
def test_an_id_is_the_hash_of_type_and_content(section_type):
    """An id is the first 16 digits of the sha256 of the type, a line feed and the content, and of nothing else."""
    expected = hashlib.sha256(f"{section_type}\na\nb".encode()).hexdigest()[:16]
    for content in ("a\nb", "\ufeffa\nb", "a\r\nb", "a\rb"):
        assert section_id(section_type, content) == expected
    assert section_id(section_type, "a\nb ") != expected
    assert len({section_id(other, "a\nb") for other in SECTION_TYPES}) == len(SECTION_TYPES)


@given(st.text())
def test_a_text_is_normalised_once(text):
    """What is normalised stays as it is, also where byte order marks follow one another."""
    for given_text in (text, "\ufeff" + text, "\ufeff\ufeff\r" + text):
        once = normalised(given_text)
        assert "\r" not in once
        assert normalised(once) == once


def test_blank_lines_around_a_text_go_however_many_there_are():
    """Blank are lines of spaces and tabs; those within stay, and the time grows with their number alone."""
    blank = "\n \t" * 50_000
    began = time.process_time()
    assert trimmed(f"{blank}\n  a{blank}\nb {blank}\n") == f"  a{blank}\nb "
    assert trimmed(blank) == trimmed("") == ""
    assert trimmed("\x0b\n") == "\x0b"
    assert time.process_time() - began < 5


def test_bodies_keep_their_blank_lines_and_lose_those_around_them():
    """A body is all up to the next header, and is stripped."""
    assert pairs("\n### Q  \n\n one\n\ntwo \n\n### A\n\nthree\n\n### four\n#### five\n") == [
        ("one\n\ntwo", "three\n\n### four\n#### five")
    ]
    assert triples(TRIPLE * 2) == [("p", "c", "r")] * 2


def test_a_probe_is_a_question():
    """`### Q !probe` is `### Q`, to the parser and among several pairs; nothing else with more on its line is."""
    assert pairs(PAIR.replace("### Q", "### Q !probe") + PAIR) == [("what?", "that.")] * 2
    for line in ("### A !probe", "### Q !probes", "### Q probe"):
        with pytest.raises(Malformed):
            pairs(f"{line}\nwhat?\n### A\nthat.")


@pytest.mark.parametrize(
    ("content", "reason", "line"),
    [
        ("", "no_pairs", 1),
        ("\n\n", "no_pairs", 1),
        ("so\n### Q\na\n### A\nb", "bad_header", 1),
        ("### Q what?\na\n### A\nb", "bad_header", 1),
        (PAIR + "### A: b", "bad_header", 5),
        ("### Q\na\n###A\nb", "bad_header", 3),
        ("### q\na\n### A\nb", "bad_header", 1),
        ("### Q\na\n### Question\n### A\nb", "bad_header", 3),
        (PAIR + "### Chosen\nc", "bad_header", 5),
        ("### Q\n \n### A\nb", "empty_question", 1),
        ("### Q\na\n### A\n\n\t\n", "empty_answer", 3),
        (PAIR + "### Q\na", "question_without_answer", 5),
        (PAIR + "\n### Q\n### Q\na\n### A\nb", "two_questions", 7),
        ("\n### A\nb", "answer_without_question", 2),
        ("### Q\na\n### A\n```\n### A\n```", "header_in_code", 5),
        ('{"messages": []}', "bad_json", 1),
        ('{"messages": [{"role": "user", "content": "a"}]}', "bad_json", 1),
        ('{"messages": [{"role": "robot", "content": "a"}, {"role": "assistant", "content": "a"}]}', "bad_json", 1),
        ('{"messages": [{"role": "assistant", "content": " "}]}', "bad_json", 1),
        ('{"messages": 1', "bad_json", 1),
    ],
)
def test_a_broken_instruction_is_told_with_its_line(content, reason, line):
    """Each way to break the grammar of instructions has a reason of its own, and the 1-based line of the section."""
    with pytest.raises(Malformed) as broken:
        rows_of("instruction", content)
    assert (broken.value.reason, broken.value.line) == (reason, line)
    assert str(broken.value).startswith(f"line {line}: ")


@pytest.mark.parametrize(
    ("content", "reason", "line"),
    [
        ("", "no_triples", 1),
        ("### Chosen\nc\n### Prompt\np\n### Rejected\nr", "out_of_order", 1),
        ("### Prompt\np\n### Rejected\nr\n### Chosen\nc", "out_of_order", 3),
        (TRIPLE + "### Chosen\nc", "out_of_order", 7),
        ("### Prompt\np\n### Prompt\np", "out_of_order", 3),
        ("### Prompt\np\n### Chosen\nc", "missing_header", 3),
        (TRIPLE + "### Prompt\np", "missing_header", 7),
        ("### Prompt\np\n### Chosen\n\n### Rejected\nr", "empty_body", 3),
        ("### Prompt: p\n### Chosen\nc\n### Rejected\nr", "bad_header", 1),
        (TRIPLE + "### Q\na", "bad_header", 7),
        ('{"prompt": "p", "chosen": "c"}', "bad_json", 1),
        ('{"prompt": "p", "chosen": "c", "rejected": " "}', "bad_json", 1),
    ],
)
def test_a_broken_preference_is_told_with_its_line(content, reason, line):
    """Each way to break the grammar of preferences has a reason of its own, and the 1-based line of the section."""
    with pytest.raises(Malformed) as broken:
        rows_of("preference", content)
    assert (broken.value.reason, broken.value.line) == (reason, line)


def test_what_is_blank_or_of_no_type_is_no_section():
    """Prose has text in it, and a type is one of three."""
    assert rows_of("prose", "\ufeff a\r\n ") == [{"text": "a"}]
    for section_type, content in (("prose", " \n"), ("verse", "a")):
        with pytest.raises(Malformed):
            rows_of(section_type, content)


@given(TEXTS, TEXTS, TEXTS)
def test_what_is_written_is_read_again(one, two, three):
    """Any texts make a section that holds exactly them: by the grammar where it can, else as JSON."""
    turns = [{"role": "user", "content": one}, {"role": "assistant", "content": two}]
    for section_type, row in (
        ("instruction", {"messages": turns}),
        ("preference", {"prompt": one, "chosen": two, "rejected": three}),
    ):
        assert rows_of(section_type, written(section_type, row)) == [row]


def test_a_conversation_stays_what_it_was():
    """Several turns, tool calls and tools come back as they were; a plain pair is written as people write it."""
    row = {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "content": "x"},
            {"role": "assistant", "content": "y"},
        ],
        "tools": [{"type": "function"}],
    }
    content = written("instruction", row)
    assert json.loads(content) == row
    assert rows_of("instruction", content) == [row]
    assert written("instruction", rows_of("instruction", PAIR)[0]) == PAIR.strip()


def cut(text):
    return [(found.section_type, found.content, found.line) for found in sections_of(text)]


def test_a_document_is_cut_where_it_changes():
    """Without fences, headers begin instructions and preferences, headings of two levels begin prose."""
    document = (
        "---\ntitle: x\n---\n# One\n\ntext\n\n## Two\n### Q\na\n### A\n```\n# code\n### Q\n```\nb\n"
        "### Prompt\np\n### Chosen\nc\n### Rejected\nr\n# Three\nmore\n### Four\nand more\n"
    )
    assert cut(document) == [
        ("prose", "# One\n\ntext", 4),
        ("instruction", "### Q\na\n### A\n```\n# code\n### Q\n```\nb", 9),
        ("preference", "### Prompt\np\n### Chosen\nc\n### Rejected\nr", 17),
        ("prose", "# Three\nmore\n### Four\nand more", 23),
    ]


def test_a_document_with_fences_is_cut_at_them_alone():
    """A fence line says what follows, whatever is in it."""
    document = "first\n### Q\n::instruction::\n\n### Q\n# a\n### A\nb\n::prose::\n### A\nc\n::preference::\n"
    assert cut(document) == [
        ("prose", "first\n### Q", 1),
        ("instruction", "### Q\n# a\n### A\nb", 5),
        ("prose", "### A\nc", 10),
    ]


def test_what_is_in_code_cuts_nothing():
    """Headers, headings, fences and markers in a fenced code block are text."""
    document = "see\n~~~\n### Q\n# x\n::instruction::\n<!-- auto-mined: -->\n~~~\nend"
    assert cut(document) == [("prose", document, 1)]


def test_a_header_with_a_slip_is_told_of_and_not_taken_for_prose():
    """`###Q` or `### Q:` in prose begins an instruction, which its grammar then refuses; a heading does not."""
    assert [kind for kind, _, _ in cut("text\n### Q:\nwhat\n### A\nthat")] == ["prose", "instruction"]
    assert [kind for kind, _, _ in cut("text\n### Q4 results\n### A note\n")] == ["prose"]


def test_a_marker_says_who_mined_what_follows():
    """A marker belongs to the preference under it, with a fence or without, and is no part of its content."""
    marker = '<!-- dlm-auto-mined: judge_name="j" mined_run_id="7" -->'
    body = "### Prompt\np\n### Chosen\nc\n### Rejected\nr"
    for document in (f"text\n\n{marker}\n{body}\n", f"text\n::preference::\n{marker}\n{body}\n"):
        [_, mined] = sections_of(document)
        assert mined.content == body
        assert {name: mined.mined[name] for name in ("judge_name", "mined_run_id")} == {
            "judge_name": "j",
            "mined_run_id": "7",
        }


@pytest.mark.parametrize("document", ["", "\n", "# only\n\n## headings\n", "---\na: b\n---\n"])
def test_a_document_may_hold_nothing(document):
    """Headings and front matter alone are no sections."""
    assert cut(document) == []


@given(st.lists(st.sampled_from(["### Q", "### A", "### Prompt", "# h", "```", "::prose::", "---", "a", "", "b"])))
def test_no_line_is_in_two_sections(lines):
    """Whatever is in a document, sections are in order, none reaches into the next, and each holds its own lines."""
    at = 0
    for found in sections_of("\n".join(lines)):
        held = found.content.split("\n")
        assert found.line > at
        assert lines[found.line - 1 : found.line - 1 + len(held)] == held
        at = found.line + len(held) - 1
