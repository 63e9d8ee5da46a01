"""Finds personal data and secrets by their patterns.

`label` is `none`, or the kinds that were found, in order, joined by commas; `value` how many there are; `spans` where.
The found text itself is in no finding.

| kind | what is found | what is not |
|---|---|---|
| `email` | an address with a top-level domain | domains that are reserved for examples (RFC 2606) |
| `phone` | `+` and 8 to 15 digits (E.164), a North American number with its separators | bare digits |
| `ip` | IPv4 and IPv6 addresses that are public | private, local, documentation addresses |
| `card` | 13 to 19 digits that begin as a card's do, with a right Luhn digit | all others |
| `iban` | an IBAN with right check digits (ISO 13616) | all others |
| `ssn` | a US social security number, with its hyphens, of a range that is given out | bare digits |
| `secret` | keys of AWS, GitHub, GitLab, Slack, Stripe, Google, OpenAI; web tokens; private key blocks | passwords |

A pattern sees no names and no postal addresses; that there is nothing here does not make a text anonymous.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from ingest.annotators.annotator import SPANS, Finding, Known, Look, Span, Target

NONE = "none"


class Pii:
    """The annotator."""

    name = "pii"
    version = "1"
    digest = None
    kinds = ("evidence", "tasks", "prompts", "replay")
    known = Known.nothing

    def over(self, _known: Iterable[Target], /) -> Look:
        """Look at each event by itself."""

        def look(targets: Sequence[Target]) -> Iterator[Finding]:
            return map(finding, targets)

        return look


def finding(target: Target) -> Finding:
    """What personal data an event holds."""
    spans = [span for field in target.fields for span in _spans(field.name, field.text)]
    counts = Counter(span.what for span in spans)
    if not spans:
        return Finding(NONE, 0.0)
    return Finding(
        ",".join(sorted(counts)), float(len(spans)), tuple(spans[:SPANS]), {"counts": dict(sorted(counts.items()))}
    )


def found(text: str) -> list[tuple[int, int, str]]:
    """What personal data a text holds: (start, end, kind), in order; of two that overlap, the first in the table."""
    taken: list[tuple[int, int, str]] = []
    covered = bytearray()  # a 1 for each character that is taken; as long as the text once one is
    for kind, hint, pattern, holds in _PATTERNS:
        if hint is not None and not hint.search(text):
            continue
        for hit in pattern.finditer(text):
            start, end = hit.span()
            if holds(hit[0]) and covered.find(1, start, end) < 0:
                covered = covered or bytearray(len(text))
                covered[start:end] = b"\1" * (end - start)
                taken.append((start, end, kind))
    return sorted(taken)


def _spans(field: str, text: str) -> Iterator[Span]:
    for start, end, kind in found(text):
        yield Span(start, end, field, kind)


def luhn(digits: str) -> bool:
    """Whether the last digit is right (ISO/IEC 7812-1, annex B)."""
    odd = [int(digit) for digit in reversed(digits)]
    return sum(sum(divmod(2 * digit, 10)) if place % 2 else digit for place, digit in enumerate(odd)) % 10 == 0


def iban(text: str) -> bool:
    """Whether the check digits are right (ISO 13616: the rearranged number leaves 1 when divided by 97)."""
    plain = re.sub(r"[ -]", "", text).upper()
    return 15 <= len(plain) <= 34 and int("".join(str(int(one, 36)) for one in plain[4:] + plain[:4])) % 97 == 1


def _email(text: str) -> bool:
    domain = text.rpartition("@")[2].lower()
    last = domain.rpartition(".")[2]
    reserved = last in {"example", "invalid", "localhost", "test", "local"}
    return not reserved and not re.search(r"(?:^|\.)example\.(?:com|net|org)$", domain)


def _public(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn(digits)


def _phone(text: str) -> bool:
    return 8 <= len(re.sub(r"\D", "", text)) <= 15


def _always(_text: str) -> bool:
    return True


_SECRETS = (
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}",
    r"gh[pousr]_[A-Za-z0-9]{36,255}",
    r"github_pat_[A-Za-z0-9_]{22,255}",
    r"glpat-[A-Za-z0-9_-]{20,}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"[rs]k_live_[A-Za-z0-9]{16,}",
    r"AIza[A-Za-z0-9_-]{35}",
    r"sk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}",
    r"eyJ[A-Za-z0-9_-]{10,8000}\.eyJ[A-Za-z0-9_-]{10,8000}\.[A-Za-z0-9_-]{10,}",
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----",
)

# In the order in which they count, each with what has to be there for the pattern to be worth its time.
_PATTERNS: tuple[tuple[str, re.Pattern[str] | None, re.Pattern[str], Callable[[str], bool]], ...] = (
    (
        "secret",
        re.compile(r"A[KSBC][IC]A|gh[pousr]_|github_pat_|glpat-|xox|k_live_|AIza|sk-|eyJ|-----BEGIN"),
        re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(_SECRETS)})"),
        _always,
    ),
    (
        "email",
        re.compile("@"),
        re.compile(
            r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9-])"
        ),
        _email,
    ),
    (
        "iban",
        re.compile(r"[A-Z]{2}[0-9]{2}"),
        re.compile(
            r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?)"
            r"(?![A-Za-z0-9])"
        ),
        iban,
    ),
    (
        "card",
        re.compile(r"[0-9]{4}"),
        re.compile(r"(?<![0-9A-Za-z.,-])[3-6][0-9]{3}(?:[ -]?[0-9]){9,15}(?![0-9])"),
        _card,
    ),
    (
        "ssn",
        re.compile(r"[0-9]-[0-9]"),
        re.compile(r"(?<![0-9-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![0-9-])"),
        _always,
    ),
    (
        "ip",
        re.compile(r"[0-9]\.[0-9]|[0-9A-Fa-f]:[0-9A-Fa-f:]"),
        re.compile(
            r"(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?!\.?[0-9])"
            r"|(?<![0-9A-Za-z:.])(?:[0-9A-Fa-f]{1,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|:(?:[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4}){0,5})?)(?![0-9A-Za-z:])"
        ),
        _public,
    ),
    (
        "phone",
        re.compile(r"\+[0-9]|[0-9)][-. ][0-9]"),
        re.compile(
            r"(?<![0-9A-Za-z+])\+[1-9][0-9]{0,2}(?:[ .-]?(?:\([0-9]{1,5}\)|[0-9]{1,5})){2,6}(?![0-9])"
            r"|(?<![0-9A-Za-z.+-])(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[-.])[2-9][0-9]{2}[-.][0-9]{4}(?![0-9.-]*[0-9])"
        ),
        _phone,
    ),
)
