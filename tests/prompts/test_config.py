"""A pool's configuration: what holds, what is refused and where, and how many prompts each domain is to have."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.annotators.text import words
from ingest.prompts.blacklist import Blacklist
from ingest.prompts.config import Domain, PoolConfig, decoded, read, write_template
from ingest.scorers.configuration import BadConfiguration
from lake.errors import LakeError

PLAIN = 'target_size = 10\n[[domain]]\nname = "a"\nshare = 0.5\n[[domain]]\nname = "b"\nshare = 0.5\n'


def test_the_defaults_are_those_of_the_pools_rules():
    """Seed 0, 5 to 4096 words with both let in, and Jaccard 0.85."""
    config = decoded(PLAIN, "pool.toml")
    assert (config.seed, config.min_words, config.max_words, config.near_duplicate) == (0, 5, 4096, 0.85)
    assert config.bounds(config.domain[0]) == (5, 4096)


def test_the_configuration_to_begin_with_holds_and_has_seven_domains(tmp_path):
    """What `init` writes can be built as it is: 50,000 prompts of seven domains."""
    write_template(tmp_path / "pool.toml")
    quotas = read(tmp_path / "pool.toml").config.quotas()
    assert quotas == {
        "chat-en": 15_000,
        "chat-zh": 10_000,
        "code": 7_500,
        "math": 5_000,
        "long-context": 5_000,
        "multi-turn": 5_000,
        "tool": 2_500,
    }
    with pytest.raises(LakeError, match="there is a file here already"):
        write_template(tmp_path / "pool.toml")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (PLAIN.replace("share = 0.5\n[", "shar = 0.5\n["), r"there is no key domain\[0\].shar", "did you mean 'share'"),
        ("sede = 1\n" + PLAIN, "there is no key sede", "did you mean 'seed'"),
        (PLAIN.replace("10", '"10"'), "target_size: expected `int`, got `str`", "docs/prompts.md"),
        (PLAIN.replace("= 10", "= ten"), "not TOML", "mend the line"),
        (PLAIN.replace("10", "0"), "target_size: must be 1 to", None),
        (PLAIN.replace("10", "1"), "target_size: 1 is too few for a prompt of each of 2 domains", None),
        ("seed = -1\n" + PLAIN, "seed: must be 0", None),
        ("min_words = -1\n" + PLAIN, "min_words: must be 0 or more", None),
        ("min_words = 7\nmax_words = 7\n" + PLAIN, "max_words: must be more than min_words, which is 7", None),
        ("near_duplicate = 0.0\n" + PLAIN, "near_duplicate: must be 0.3 to 1", None),
        ("near_duplicate = nan\n" + PLAIN, "near_duplicate: must be 0.3 to 1", None),
        (PLAIN + "max_words = 3\n", r"domain\[1\].max_words: must be more than min_words, which is 5", None),
        (PLAIN.replace("0.5", "0.0", 1), r"domain\[0\].share: must be above 0", None),
        (PLAIN.replace("0.5", "1.5", 1), r"domain\[0\].share: must be above 0", None),
        (PLAIN.replace("0.5", "nan", 1), r"domain\[0\].share: must be above 0", None),
        (PLAIN.replace("0.5", "0.50001", 1), "the shares add up to 1.00001", None),
        (PLAIN.replace('"b"', '"a"'), r"domain\[1\].name: 'a' is taken", "a name of its own"),
        (PLAIN.replace('"b"', '" "'), r"domain\[1\].name: must be text", None),
        (PLAIN + '[[held_back]]\nname = "a"\n', r"held_back\[0\].name: 'a' is taken", None),
        (PLAIN + '[[held_back]]\nname = "x"\nsize = 0\n', r"held_back\[0\].size: must be 1 or more", None),
        ("target_size = 10\n", "domain: there is none", r"\[\[domain\]\]"),
        ("target_size = 10\ndomain = [3]\n", r"domain\[0\]: expected `object`", None),
    ],
)
def test_what_does_not_hold_is_refused_with_its_place(text, message, hint):
    """The message names the file and the key; the hint what to write instead."""
    with pytest.raises(BadConfiguration, match=f"pool.toml: .*{message}") as caught:
        decoded(text, "pool.toml")
    assert hint is None or (caught.value.hint and hint.replace("\\", "") in caught.value.hint)


@pytest.mark.parametrize("share", ["0.5000009", "0.4999991"])
def test_shares_may_be_off_by_a_millionth(share):
    """Shares that were rounded still add up to the target."""
    config = decoded(PLAIN.replace("0.5", share, 1), "pool.toml")
    assert sum(config.quotas().values()) == 10


weights = st.lists(st.integers(1, 1000), min_size=1, max_size=12)


@given(weights, st.integers(0, 5000))
def test_quotas_add_up_to_the_target_and_are_within_one_of_the_shares(parts, more):
    """No rounding misses the target, nobody has none, and where all shares come to one prompt all are within one."""
    target = len(parts) + more
    domains = tuple(Domain(name=str(place), share=part / sum(parts)) for place, part in enumerate(parts))
    quotas = PoolConfig(target_size=target, domain=domains).quotas()
    assert sum(quotas.values()) == target
    assert min(quotas.values()) >= 1
    exact = [Fraction(part, sum(parts)) * target for part in parts]
    if min(exact) >= 1:
        assert all(abs(quota - want) <= 1 for quota, want in zip(quotas.values(), exact, strict=True))


def test_a_small_domain_takes_its_one_prompt_from_the_largest():
    """Everybody has one at least, and the sum stays what it is."""
    domains = (Domain(name="a", share=0.98), Domain(name="b", share=0.01), Domain(name="c", share=0.01))
    assert PoolConfig(target_size=4, domain=domains).quotas() == {"a": 2, "b": 1, "c": 1}


def test_what_rounding_leaves_goes_to_the_largest_remainder():
    """Whatever the order of the domains."""
    shares = {"a": 0.61, "b": 0.39}
    for names in ("ab", "ba"):
        domains = tuple(Domain(name=name, share=shares[name]) for name in names)
        assert PoolConfig(target_size=10, domain=domains).quotas() == {"a": 6, "b": 4}


@pytest.fixture
def blacklist(tmp_path: Path) -> Blacklist:
    path = tmp_path / "blacklist.txt"
    path.write_text("# words\nslur\nbad phrase\n坏话\n/h[a4]ck(ed)?\\b/\n\n", "utf-8")
    return Blacklist.read(path)


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("This has a SLUR in it.", True),
        ("Slurry is no such word.", False),
        ("A bad\nphrase, this.", True),
        ("A phrase that is bad.", False),
        ("这是坏话吗？", True),
        ("话坏", False),
        ("They H4CKED it.", True),
        ("hackers", False),
        ("", False),
    ],
)
def test_a_blacklist_finds_words_phrases_and_patterns(blacklist, text, refused):
    """Words as words, phrases in a row, a script without spaces anywhere, expressions as they are."""
    assert blacklist.has(text, words(text)) is refused


@pytest.mark.parametrize(("line", "message"), [("/(/", "no regular expression"), ("!!!", "has no word")])
def test_a_blacklist_that_cannot_be_read_says_which_line(tmp_path, line, message):
    """The file and line of an entry that means nothing are in the message."""
    path = tmp_path / "blacklist.txt"
    path.write_text(f"word\n{line}\n")
    with pytest.raises(BadConfiguration, match=f"line 2: .*{message}"):
        Blacklist.read(path)


def test_a_plan_is_told_from_another_by_what_it_says(tmp_path):
    """Comments, and the order of a blacklist, change nothing; a word or a key does."""
    digests = []
    for number, (text, entries) in enumerate(
        [
            (PLAIN, "one\ntwo\n"),
            ("# a comment\n" + PLAIN, "two\n# other\none\n"),
            (PLAIN, "one\nthree\n"),
            ("seed = 1\n" + PLAIN, "one\ntwo\n"),
        ]
    ):
        (tmp_path / f"{number}.txt").write_text(entries)
        (tmp_path / "pool.toml").write_text(f'blacklist = "{number}.txt"\n{text}')
        digests.append(read(tmp_path / "pool.toml").digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_missing_file_is_named(tmp_path):
    """A configuration, or a blacklist, that is not there is said by name."""
    with pytest.raises(BadConfiguration, match=r"nowhere\.toml") as missing:
        read(tmp_path / "nowhere.toml")
    assert missing.value.hint == "name a TOML file that can be read"
    (tmp_path / "pool.toml").write_text(f'blacklist = "gone.txt"\n{PLAIN}')
    with pytest.raises(BadConfiguration, match=r"gone\.txt") as missing:
        read(tmp_path / "pool.toml")
    assert missing.value.hint == "name a blacklist that can be read"
    with pytest.raises(LakeError, match="nowhere") as missing:
        write_template(tmp_path / "nowhere" / "pool.toml")
    assert missing.value.hint
