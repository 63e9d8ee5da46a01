"""Reads the configuration file (TOML or JSON) of a scorer or an annotator into its struct, strictly.

An unknown key is an error that gives its dotted path and the nearest key there is. Settings make a version of their
own: `digest` tells them apart, `numbered` says which of them is the newest.
"""

import difflib
import hashlib
import re
import tomllib
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lake.errors import UsageError

_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_ORDINAL = re.compile(r"(?P<base>.*)\.(?P<number>[0-9]+)-(?P<digest>[a-p]{12}|default)")
SEE = "docs/scoring.md"
PLACEHOLDER = re.compile(r"\{(\w+)\}")

Struct = TypeVar("Struct", bound=msgspec.Struct)


class BadConfiguration(UsageError):
    """A configuration file that cannot be read as what it should be."""


def read(path: Path, kind: type[Struct], see: str = SEE) -> Struct:
    """The configuration in a file; `see` is the page that says what can be set. Raises BadConfiguration."""
    return decoded(content(path), kind, str(path), toml=path.suffix != ".json", see=see)


def content(path: Path, what: str = "a TOML or JSON file") -> str:
    """The text of a configuration file, or of `what` else one names. Raises BadConfiguration."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise BadConfiguration(f"{path}: {error.strerror}", f"name {what} that can be read") from None
    except UnicodeDecodeError:
        raise BadConfiguration(f"{path}: not UTF-8 text", "save it as UTF-8") from None


def digest(text: str) -> str:
    """What tells one text from another in a version: the start of its sha256, in letters.

    Letters alone, because the digits in a version say which of two is the newer.
    """
    return hashlib.sha256(text.encode()).hexdigest()[:12].translate(_LETTERS)


def digest_of(options: msgspec.Struct) -> str | None:
    """What tells options from others; None where they are what they are when nothing is set."""
    if options == type(options)():
        return None
    return digest(msgspec.json.encode(options, order="deterministic").decode())


def numbered(base: str, digest: str | None, told: Iterable[str]) -> str:
    """The version of something with these settings, among those that a lake has told.

    As it says itself, if it comes as it is. Where settings or a text differ they are numbered, `1.2-<digest>`: one that
    is not the newest told gets the next number, so that today's count, also when they are those of the day before
    yesterday.
    """
    matches = [match for version in told if (match := _ORDINAL.fullmatch(version)) and match["base"] == base]
    number, newest = max(((int(match["number"]), match["digest"]) for match in matches), default=(0, "default"))
    ours = digest or "default"
    number += newest != ours
    return f"{base}.{number}-{ours}" if number else base


def decoded(text: str, kind: type[Struct], name: str, *, toml: bool, see: str = SEE) -> Struct:
    """A configuration's text as its struct. `name` is for messages. Raises BadConfiguration."""
    try:
        data = tomllib.loads(text) if toml else msgspec.json.decode(text)
    except (tomllib.TOMLDecodeError, msgspec.DecodeError) as error:
        raise BadConfiguration(f"{name}: not {'TOML' if toml else 'JSON'}: {error}", "mend the line it names") from None
    refuse_unknown(data, kind, name, "")
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at `$")
        where = place.rstrip("`").lstrip(".")
        said = said[:1].lower() + said[1:]
        where = where or "the file"
        raise BadConfiguration(f"{name}: {where}: {said}", f"see {see} for what can be set") from None


def refuse_unknown(data: object, kind: Any, name: str, path: str) -> None:
    """Raise BadConfiguration for the first key that its struct does not have."""
    structs, item = _shape(kind)
    if isinstance(data, list) and item is not None:
        for place, one in enumerate(data):
            refuse_unknown(one, item, name, f"{path}[{place}]")
    if not isinstance(data, dict) or structs is None:
        return
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(structs)}
    for key, value in data.items():
        here = f"{path}.{key}".lstrip(".")
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys here are {', '.join(fields)}"
            raise BadConfiguration(f"{name}: there is no key {here}", hint)
        refuse_unknown(value, fields[key], name, here)


def _shape(kind: Any) -> tuple[Any, Any]:
    """The struct that a type is or may be, and the type of its items if it is a list of some."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    structs = next((one for one in options if isinstance(one, type) and issubclass(one, msgspec.Struct)), None)
    items = next((typing.get_args(one)[0] for one in options if typing.get_origin(one) in (tuple, list)), None)
    return structs, items
