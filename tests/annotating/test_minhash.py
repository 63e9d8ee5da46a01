import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.annotators import minhash, shingles
from ingest.annotators.minhash import Match, NearDuplicates, similarity
from ingest.annotators.text import words
from lake.errors import UsageError

WORDS = st.lists(st.sampled_from(["one", "two", "three", "four", "five", "six", "seven"]), max_size=12)
TEXTS = st.lists(WORDS.map(" ".join), max_size=12)


def shingled(text: str, size: int) -> frozenset[tuple[str, ...]]:
    """The shingles of a text, found the plain way."""
    found = words(text)
    runs = [tuple(found[at : at + size]) for at in range(len(found) - size + 1)]
    return frozenset(runs or ([tuple(found)] if found else []))


def corpus(count: int, seed: int, length: int = 60) -> list[str]:
    """Random texts of which a third differ from an earlier one in a few words."""
    chance = random.Random(seed)
    made: list[str] = []
    for _ in range(count):
        if made and chance.random() < 0.3:
            some = chance.choice(made).split()
            for _ in range(chance.randint(0, 3)):
                some[chance.randrange(len(some))] = f"new{chance.randrange(10**6)}"
            made.append(" ".join(some))
        else:
            made.append(" ".join(f"w{chance.randrange(5000)}" for _ in range(chance.randint(1, length))))
    return made


def all_matches(texts: list[str], finder: NearDuplicates) -> list[Match | None]:
    return list(finder.matches((str(place), text) for place, text in enumerate(texts)))


@given(TEXTS, st.sampled_from([0.3, 0.5, 0.8, 1.0]), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_a_match_is_exact_and_the_kept_one_has_none(texts: list[str], threshold: float, size: int) -> None:
    """What is said of a match is the true Jaccard similarity, of a kept text at or above the threshold."""
    found = all_matches(texts, NearDuplicates(threshold, size))
    assert len(found) == len(texts)
    for text, match in zip(texts, found, strict=True):
        if match:
            kept = int(match.kept)
            assert found[kept] is None
            assert match.similarity == similarity(shingled(text, size), shingled(texts[kept], size)) >= threshold
        else:
            assert match is None


@given(TEXTS)
@settings(max_examples=30, deadline=None)
def test_the_same_words_are_always_found(texts: list[str]) -> None:
    """Of texts with the same words, however written, one is kept; one without a word matches nothing."""
    finder = NearDuplicates(1.0)
    found = all_matches([*texts, *(text.upper().replace(" ", "\n,") for text in texts)], finder)
    assert all((match is not None) == bool(text) for match, text in zip(found[len(texts) :], texts, strict=True))
    assert len(finder) == len({shingled(text, 5) for text in texts} - {frozenset()})


def test_hardly_a_near_copy_is_overlooked() -> None:
    """Against every pair compared by hand, nearly all that reach the threshold are found, and nothing else."""
    texts = corpus(700, seed=1, length=160)
    found = all_matches(texts, NearDuplicates(0.8))
    sets = [shingled(text, 5) for text in texts]
    kept = [place for place, match in enumerate(found) if match is None]
    overlooked = sum(similarity(sets[one], sets[other]) >= 0.8 for one, other in combinations(kept, 2))
    assert sum(match is not None for match in found) > 80
    assert overlooked <= 2


def test_one_by_one_and_all_at_once_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """However texts are handed in, and however small the parts they are worked on in, the answers are the same."""
    texts = [*corpus(300, seed=2), "", " ".join(corpus(40, seed=3))]
    together = all_matches(texts, NearDuplicates())
    finder = NearDuplicates()
    assert [finder.add(str(place), text) for place, text in enumerate(texts)] == together
    monkeypatch.setattr(minhash, "_TOGETHER", 16)
    monkeypatch.setattr(minhash, "_SETTLED", 5)
    monkeypatch.setattr(minhash, "_RECENT", 40)
    monkeypatch.setattr(minhash, "_PART", 100)
    monkeypatch.setattr(shingles, "_VOCABULARY", 50)
    assert all_matches(texts, NearDuplicates()) == together
    finder = NearDuplicates()
    assert [finder.add(str(place), text) for place, text in enumerate(texts)] == together


def test_a_long_template_is_compared_no_further_than_it_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that all begin alike are compared with a bounded number of others, and near copies are found among them."""
    chance = random.Random(5)
    template = " ".join(f"t{number}" for number in range(65))
    texts = [f"{template} {' '.join(f'w{chance.randrange(10**6)}' for _ in range(40))}" for _ in range(300)]
    texts += [text.replace(" t3 ", f" new{number} ") for number, text in enumerate(texts)]
    compared = []
    exact = minhash.similarity

    def counted(first: frozenset[int], second: frozenset[int]) -> float:
        compared.append(1)
        return exact(first, second)

    monkeypatch.setattr(minhash, "similarity", counted)
    monkeypatch.setattr(minhash, "_CROWD", 2)
    monkeypatch.setattr(minhash, "_COMPARED", 8)
    finder = NearDuplicates()
    found = all_matches(texts, finder)
    assert [match and match.kept for match in found] == [None] * 300 + [str(number) for number in range(300)]
    assert len(compared) <= len(texts) * (2 * finder.bands + 8)
    monkeypatch.setattr(minhash, "_SETTLED", 5)
    monkeypatch.setattr(minhash, "_RECENT", 40)
    finder = NearDuplicates()
    assert [finder.add(str(place), text) for place, text in enumerate(texts)] == found


def test_a_copy_of_one_in_a_crowd_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every band is shared by many, those that share the most are compared, so a copy of any is found."""
    monkeypatch.setattr(minhash, "_CROWD", 2)
    monkeypatch.setattr(minhash, "_COMPARED", 4)
    said = [f"w{number}" for number in range(100)]
    finder = NearDuplicates()
    for number in range(40):
        finder.keep(str(number), " ".join([*said, f"end{number}"]))
    match = finder.match(" ".join([*said, "end30", "more"]))
    assert match is not None
    assert match.similarity > 0.9


def test_more_texts_change_no_earlier_answer() -> None:
    """The answers on the first texts stay as they are when others come after them."""
    texts = corpus(400, seed=4)
    assert all_matches(texts, NearDuplicates())[:150] == all_matches(texts[:150], NearDuplicates())


def test_asking_keeps_nothing() -> None:
    """A text that is only asked about, or not yet given when one stops, is not kept."""
    finder = NearDuplicates()
    assert finder.match("one two three four five six") is None
    assert finder.match("") is None
    given = finder.matches([("a", "one two three four five six"), ("b", "seven eight nine ten eleven twelve")])
    assert next(given) is None
    given.close()
    assert len(finder) == 1
    assert finder.match("One, two, three, four, five, six!") == Match("a", 1.0)
    assert finder.add("b", "seven eight nine ten eleven twelve") is None


def test_a_sentence_without_spaces_is_compared_by_its_characters() -> None:
    """A Chinese sentence with one character changed is a near copy of the one before, and another one is not."""
    finder = NearDuplicates(0.6)
    assert finder.add("a", "请你写出一个可以生成五个不同随机数的程序，并且解释每一行代码的作用。") is None
    assert finder.add("b", "请你写出一个可以生成六个不同随机数的程序，并且解释每一行代码的作用。") is not None
    assert finder.add("c", "描述一下如何制作一道有名的本地菜肴，并将步骤列出来。") is None


@pytest.mark.parametrize(("threshold", "shingle"), [(0.1, 5), (1.1, 5), (float("nan"), 5), (0.8, 0)])
def test_odd_settings_are_refused(threshold: float, shingle: int) -> None:
    """A threshold that is no share, or too low to find candidates at, and a shingle of no word are refused."""
    with pytest.raises(UsageError, match="is none"):
        NearDuplicates(threshold, shingle)
