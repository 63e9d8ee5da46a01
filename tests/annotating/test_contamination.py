"""What counts as an eval task in another event, and where it is found."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.annotators.annotator import Field, Finding, Known, Target
from ingest.annotators.contamination import Contamination, Options
from ingest.annotators.text import words
from lake.errors import UsageError

QUESTION = (
    "A baker sells twelve loaves in the morning and twice as many in the afternoon; "
    "how many loaves are sold in the whole day, if four are given away?"
)


def task(description: str, task_id: str = "e", **fields: str) -> Target:
    named = {"description": description, **fields}
    return Target(task_id, "tasks", None, task_id, tuple(Field(name, text) for name, text in named.items()))


def found(tasks: list[Target], options: Options | None = None, **fields: str) -> Finding:
    target = Target("event", "evidence", "r", "t", tuple(Field(name, text) for name, text in fields.items()))
    [finding] = Contamination(options).over(tasks)([target])
    return finding


def places(finding: Finding, **fields: str) -> list[str]:
    return [fields[span.field][span.start : span.end] for span in finding.spans]


def test_a_quoted_task_is_found_where_it_stands() -> None:
    """A copy is found however it is written, and its span is that of the copy in the text as it came."""
    text = f"As the book asks: {QUESTION.upper()} I would say 32."
    finding = found([task(QUESTION)], text=text)
    assert (finding.label, finding.value) == ("overlap", 1.0)
    assert finding.extra == {"tasks": ["e"], "number": 1}
    assert places(finding, text=text) == [QUESTION.upper().rstrip("?")]
    assert finding.spans[0].what == "e"


def test_what_was_compared_and_is_clean_says_so() -> None:
    """An event without anything of a task has a finding all the same."""
    assert found([task(QUESTION)], text="A cobbler mends shoes.") == Finding("clean", 0.0)
    assert Contamination().known is Known.eval_tasks


@pytest.mark.parametrize(("run", "label"), [(12, "clean"), (13, "overlap")])
def test_thirteen_words_are_an_overlap_and_twelve_are_none(run: int, label: str) -> None:
    """Of a long text, runs of thirteen words count, and shorter ones do not."""
    part = " ".join(QUESTION.split()[4 : 4 + run])
    assert found([task(QUESTION)], text=f"Once upon a time {part}, and so on.").label == label


def test_tests_and_answers_count_too() -> None:
    """Every text of a task gives it away by thirteen words, but of its description alone is a short one looked for."""
    solution = "We first halve the number of eggs, then take three away, and multiply what is left by two dollars."
    eval_task = task("Halve the eggs, please, would you?", answer=solution, starter_code="def solve(self, nums):")
    assert found([eval_task], text=f"Think: {solution}").label == "overlap"
    assert found([eval_task], text="def solve(self, nums): return 1").label == "clean"


def test_short_descriptions_count_as_a_whole() -> None:
    """A description of five to twelve words is looked for as it is, a shorter one only where nothing else is said."""
    short, tiny = task("Reverse the words of a sentence", "short"), task("Sort it", "tiny")
    assert found([short, tiny], text="Please reverse the words of a sentence now").extra == {
        "tasks": ["short"],
        "number": 1,
    }
    assert found([short, tiny], text="Reverse the letters of a sentence").label == "clean"
    assert found([short, tiny], text="sort it!").extra == {"tasks": ["tiny"], "number": 1}
    assert found([short, tiny], text="Sort it by name").label == "clean"


def test_a_copy_with_words_changed_is_found() -> None:
    """Eight in ten of a description's runs of five words are a copy, also where no thirteen words run on."""
    said = [f"w{number}" for number in range(60)]
    changed = [word if place % 12 else "other" for place, word in enumerate(said)]
    options = Options(share=0.5)
    assert found([task(" ".join(said))], text=" ".join(changed)).label == "clean"
    finding = found([task(" ".join(said))], options, text=" ".join(changed))
    assert finding.label == "overlap"
    assert finding.value is not None
    assert 0.5 <= finding.value < 0.8
    assert found([task(" ".join(said))], Options(share=finding.value), text=" ".join(changed)).label == "overlap"
    assert all("other" not in place for place in places(finding, text=" ".join(changed)))


def test_a_task_in_another_script_is_found() -> None:
    """Chinese text without a space is compared by its characters."""
    question = "请你写出一个可以生成五个不同随机数的程序，并且解释每一行代码的作用。"
    text = f"问题：{question}好的。"
    finding = found([task(question)], text=text)
    assert places(finding, text=text) == [question.rstrip("。")]


def test_parts_in_several_fields_count_together() -> None:
    """A copy that is spread over the turns of a conversation is one, and its spans name their turns."""
    half = QUESTION.split("; ")
    finding = found([task(QUESTION)], **{"messages/0/content": half[0], "messages/2/content": half[1]})
    assert finding.label == "overlap"
    assert {span.field for span in finding.spans} == {"messages/0/content", "messages/2/content"}


def test_settings_that_find_nothing_are_refused() -> None:
    """Settings under which nothing could be found are a mistake; others are a version of their own."""
    for odd in ({"run": 4}, {"shortest": 0}, {"shingle": 0}, {"share": 0.0}):
        with pytest.raises(UsageError):
            Options(**odd)
    assert Contamination(Options(run=8)).digest
    assert Contamination(Options()).digest is None


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=60), st.lists(st.sampled_from(["a", "b", "c"]), max_size=60))
@settings(max_examples=60, deadline=None)
def test_the_runs_found_are_those_in_common(mine: list[str], theirs: list[str]) -> None:
    """Whether thirteen words are in common is what a plain search says."""
    runs = [{tuple(one[at : at + 13]) for at in range(len(one) - 12)} for one in (mine, theirs)]
    asked = task("x", answer=" ".join(theirs))
    assert (found([asked], text=" ".join(mine)).label == "overlap") == bool(runs[0] & runs[1])
    assert words(" ".join(mine)) == mine
