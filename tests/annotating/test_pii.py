"""What is taken for personal data or a secret, and what is not."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.annotators.annotator import Field, Target
from ingest.annotators.pii import Pii, found, iban, luhn

FOUND = [
    ("email", "jane.doe+x@corp.co.uk"),
    ("phone", "+49 30 901820"),
    ("phone", "+14155552671"),
    ("phone", "(415) 555-2671"),
    ("phone", "415-555-2671"),
    ("ip", "8.8.8.8"),
    ("ip", "2001:4860:4860::8888"),
    ("card", "4111 1111 1111 1111"),
    ("card", "378282246310005"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB82WEST12345698765432"),
    ("ssn", "536-90-4399"),
    ("secret", "AKIAIOSFODNN7EXAMPLE"),
    ("secret", "ghp_" + "a1B2" * 9),
    ("secret", "github_pat_" + "A1b2_" * 6),
    ("secret", "-----BEGIN RSA PRIVATE KEY-----"),
    ("secret", "-----BEGIN OPENSSH PRIVATE KEY-----"),
    ("secret", "sk-proj-" + "Ab1_" * 10),
]

NOT = [
    "write to someone@example.com",
    "user@localhost",
    "the decorator @cache",
    "127.0.0.1 and 192.168.1.20 and 10.0.0.1",
    "version 1.2.3.4.5",
    "version 999.1.1.1",
    "std::vector and a::b",
    "at 12:30:45",
    "4111 1111 1111 1112",
    "0000 0000 0000 0000",
    "1234567890123456",
    "GB83WEST12345698765432",
    "000-12-3456 and 666-12-3456 and 912-12-3456",
    "2024-01-15",
    "3.14159265358979",
    "AKIA is a prefix",
    "-----BEGIN PUBLIC KEY-----",
    "1 + 2 = 3",
    "call 911",
]


@pytest.mark.parametrize(("kind", "text"), FOUND)
def test_each_kind_is_found_in_its_place(kind: str, text: str) -> None:
    """What is personal is found as what it is, wherever it stands, and nothing beside it."""
    for before, after in (("", ""), ("Here: ", "."), ("(", ")"), ("你好", "\n")):
        assert found(before + text + after) == [(len(before), len(before) + len(text), kind)]


@pytest.mark.parametrize("text", NOT)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    """Examples, private addresses, wrong check digits, versions, times and dates are nothing personal."""
    assert found(text) == []


def test_a_finding_says_what_and_where_and_never_the_text() -> None:
    """The label has the kinds, the spans the places, and no part of a finding the data itself."""
    text = "Mail jane@corp.com or bob@corp.com; card 4111111111111111."
    fields = (Field("text", text), Field("messages/0/content", "from 8.8.4.4"))
    [finding, clean] = Pii().over([])(
        [Target("e", "evidence", "r", "t", fields), Target("f", "evidence", "r", "t", ())]
    )
    assert (finding.label, finding.value) == ("card,email,ip", 4.0)
    assert finding.extra == {"counts": {"card": 1, "email": 2, "ip": 1}}
    assert [(span.field, span.what) for span in finding.spans] == [
        ("text", "email"),
        ("text", "email"),
        ("text", "card"),
        ("messages/0/content", "ip"),
    ]
    assert "jane" not in repr(finding)
    assert (clean.label, clean.value, clean.spans) == ("none", 0.0, ())


@given(st.integers(10**11, 10**18))
def test_one_last_digit_is_right(number: int) -> None:
    """Of the ten digits that can end a card's number, one is right, and another in any place makes it wrong."""
    right = [digit for digit in range(10) if luhn(f"{number}{digit}")]
    assert len(right) == 1
    said = f"{number}{right[0]}"
    assert not any(luhn(said[:at] + str((int(said[at]) + 1) % 10) + said[at + 1 :]) for at in range(len(said)))


def test_an_iban_has_its_check_digits() -> None:
    """Of the check digits that an IBAN could have, one pair is right."""
    assert [number for number in range(2, 99) if iban(f"GB{number:02}WEST12345698765432")] == [82]
    assert not iban("GB82WEST")


def test_one_place_is_one_kind() -> None:
    """Of two kinds that overlap the first in the table counts: a number that is an address is one."""
    assert found("415-555-2671@corp.com") == [(0, 21, "email")]
    assert [kind for _, _, kind in found("415-555-2671, a@corp.com")] == ["phone", "email"]


@given(st.text())
def test_any_text_can_be_looked_at(text: str) -> None:
    """Whatever a text holds, spans are in it, in order, and do not overlap."""
    last = 0
    for start, end, _ in found(text):
        assert last <= start < end <= len(text)
        last = end


@pytest.mark.parametrize(
    "text", [" ".join(f"u{number}@corp{number}.com" for number in range(20_000)), "-eyJabcdefghij" * 20_000]
)
def test_a_text_of_nothing_but_such_takes_no_longer(text: str) -> None:
    """The time it takes grows with a text's length and not with its square."""
    began = time.process_time()
    hits = found(text)
    assert len(hits) == text.count("@")
    assert time.process_time() - began < 10
