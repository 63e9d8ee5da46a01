"""What a prompt pool is to be: its size, its domains and their shares, and what no prompt may be. Read from TOML.

Strict: a key that there is not, a share that is none, and names that come twice are errors, each with its place in the
file. Nothing is read from the lake here (`pool` does that).
"""

import hashlib
import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from ingest.prompts.blacklist import Blacklist
from ingest.scorers.configuration import BadConfiguration, content, refuse_unknown
from lake.errors import LakeError

QUOTA_RULE = "largest remainder of share x target_size, at least 1 each, equal remainders in the order of the file"
SHARES_OFF = 1e-6  # what the shares may add up to more or less than 1
LARGEST = 100_000_000
LOOSEST = 0.3  # below that, texts with little in common are candidates for one another
_NAME_LENGTH = 100
_TEMPLATE = Path(__file__).with_name("template.toml")


class Domain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One domain of a pool.

    `share` of the pool, above 0 and at most 1. `sources` are globs of files: its prompts come from these alone, and a
    prompt that names no domain is of the one whose source its file is. `language`, if given, is what its prompts are
    in. The bounds in words are the pool's own, unless given.
    """

    name: str
    share: float
    sources: tuple[str, ...] = ()
    language: str | None = None
    min_words: int | None = None
    max_words: int | None = None


class HeldBack(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A set of prompts for evaluation alone: neither they nor near copies of them are in the pool.

    Its prompts are those of the domain of its name; `size` of them, all by default, become a pool of their own.
    """

    name: str
    size: int | None = None
    sources: tuple[str, ...] = ()


class PoolConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a pool is to be.

    `min_words` and `max_words` are both let in. Two prompts whose word shingles have a Jaccard similarity of
    `near_duplicate` or more are one. `languages`, if any, are the only ones that prompts may be in where their domain
    names none. `blacklist` is a file of words and patterns, beside the configuration.
    """

    target_size: int
    seed: int = 0
    min_words: int = 5
    max_words: int = 4096
    near_duplicate: float = 0.85
    languages: tuple[str, ...] = ()
    blacklist: str | None = None
    domain: tuple[Domain, ...] = ()
    held_back: tuple[HeldBack, ...] = ()

    def bounds(self, domain: Domain) -> tuple[int, int]:
        """How many words a prompt of a domain may have, both let in."""
        low = self.min_words if domain.min_words is None else domain.min_words
        return low, self.max_words if domain.max_words is None else domain.max_words

    def quotas(self) -> dict[str, int]:
        """How many prompts each domain is to have; they add up to the target exactly. `QUOTA_RULE` says how."""
        shares = [Fraction(str(domain.share)) for domain in self.domain]
        exact = [self.target_size * share / sum(shares) for share in shares]
        found = [max(1, int(part)) for part in exact]
        left = self.target_size - sum(found)
        for place in sorted(range(len(found)), key=lambda place: found[place] - exact[place])[: max(left, 0)]:
            found[place] += 1
        for _ in range(-left):
            # Domains that were raised to 1 took it from somebody: from whoever is furthest above its share.
            most = max((place for place in range(len(found)) if found[place] > 1), key=lambda at: found[at] - exact[at])
            found[most] -= 1
        return {domain.name: count for domain, count in zip(self.domain, found, strict=True)}


class Plan(msgspec.Struct, frozen=True):
    """A configuration that holds, with the blacklist that it names. `file` is where it was read."""

    config: PoolConfig
    blacklist: Blacklist
    file: str

    @property
    def digest(self) -> str:
        """The sha256 of all that the configuration says, the blacklist's words and patterns included."""
        said = msgspec.json.encode(msgspec.structs.replace(self.config, blacklist=None), order="deterministic")
        return hashlib.sha256(said + b"\n" + self.blacklist.said.encode()).hexdigest()


def read(path: Path) -> Plan:
    """The configuration in a file, and the blacklist that it names. Raises BadConfiguration."""
    config = decoded(content(path, "a TOML file"), str(path))
    blacklist = Blacklist()
    if config.blacklist is not None:
        blacklist = Blacklist.read(path.parent / config.blacklist)
    return Plan(config, blacklist, str(path))


def decoded(text: str, name: str) -> PoolConfig:
    """A configuration's text as what it says; `name` is for messages. Raises BadConfiguration."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfiguration(f"{name}: not TOML: {error}", "mend the line it names") from None
    refuse_unknown(data, PoolConfig, name, "")
    try:
        config = msgspec.convert(data, PoolConfig)
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at `$")
        where = place.rstrip("`").lstrip(".") or "the file"
        raise BadConfiguration(f"{name}: {where}: {said[:1].lower()}{said[1:]}", _HINT) from None
    _check(config, name)
    return config


def write_template(path: Path) -> None:
    """Write a configuration with comments to begin with. Raises LakeError where there is a file already."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_TEMPLATE.read_text("utf-8"))
    except FileExistsError:
        raise LakeError(f"{path}: there is a file here already", "choose another name, or use it as it is") from None
    except OSError as error:
        raise LakeError(f"{path}: {error.strerror}", "name a file in a folder that can be written to") from None


def _check(config: PoolConfig, name: str) -> None:
    def refuse(where: str, message: str, hint: str = _HINT) -> NoReturn:
        raise BadConfiguration(f"{name}: {where}: {message}", hint)

    if not 1 <= config.target_size <= LARGEST:
        refuse("target_size", f"must be 1 to {LARGEST:,}, and is {config.target_size}")
    if not 0 <= config.seed < 1 << 63:
        refuse("seed", f"must be 0 to 2^63 - 1, and is {config.seed}")
    if not LOOSEST <= config.near_duplicate <= 1:
        refuse("near_duplicate", f"must be {LOOSEST} to 1, and is {config.near_duplicate}")
    _check_bounds(refuse, "", config.min_words, config.max_words)
    if not config.domain:
        refuse("domain", "there is none", "write a [[domain]] with a name and a share for each")
    for place, domain in enumerate(config.domain):
        where = f"domain[{place}]"
        if not 0 < domain.share <= 1:
            refuse(f"{where}.share", f"must be above 0 and at most 1, and is {domain.share}")
        _check_bounds(refuse, f"{where}.", *config.bounds(domain))
    for place, held in enumerate(config.held_back):
        if held.size is not None and held.size < 1:
            refuse(f"held_back[{place}].size", f"must be 1 or more, and is {held.size}")
    _check_names(refuse, config)
    total = sum(Fraction(str(domain.share)) for domain in config.domain)
    if abs(float(total - 1)) > SHARES_OFF:
        refuse("domain", f"the shares add up to {float(total):.10g}, and must add up to 1")
    if config.target_size < len(config.domain):
        refuse("target_size", f"{config.target_size} is too few for a prompt of each of {len(config.domain)} domains")


def _check_bounds(refuse: Any, where: str, low: int, high: int) -> None:
    if low < 0:
        refuse(f"{where}min_words", f"must be 0 or more, and is {low}")
    if high <= low:
        refuse(f"{where}max_words", f"must be more than min_words, which is {low}, and is {high}")


def _check_names(refuse: Any, config: PoolConfig) -> None:
    seen: list[str] = []
    names = [(f"domain[{place}]", one.name) for place, one in enumerate(config.domain)]
    names += [(f"held_back[{place}]", one.name) for place, one in enumerate(config.held_back)]
    for where, name in names:
        if not name.strip() or not name.isprintable() or len(name) > _NAME_LENGTH:
            refuse(f"{where}.name", f"must be text of 1 to {_NAME_LENGTH} characters, and is {name!r:.120}")
        if name in seen:
            refuse(f"{where}.name", f"{name!r} is taken already", "give each domain a name of its own")
        seen.append(name)


_HINT = "see docs/prompts.md for what can be set"
