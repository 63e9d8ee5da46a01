"""A scorer that is a relation: a `.sql` file with one SELECT over the views.

    -- One row per run with a verdict of this rule: how long its text is
    -- version: 1
    select run_id, case when length(text) > 10 then 'accepted' else 'rejected' end as category from runs

It returns at most one row a run: `run_id` and `category`, and if it has them `score`, `reasons` (a text or a list) and
`sub_scores` (JSON text, or a struct). Its name is the file's. Its version is what a `-- version:` line before the
SELECT says, else told from the digest of the text. A row whose category is null is no verdict.

It must look at the evidence and the task of its run alone, to be as pure as any scorer; this is not checked.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from ingest.scorers import configuration
from ingest.scorers.scorer import BadVerdict, Verdict
from lake.errors import UsageError

_HEAD = re.compile(r"(?:\s*--[^\n]*(?:\n|\Z))*")
_VERSION = re.compile(r"^\s*--\s*version:\s*(\S+)\s*$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9._-]+")


class Relation:
    """A relation's text, and how its rows become verdicts."""

    def __init__(self, name: str, text: str) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name for a scorer", "name the file in letters, digits, '.', '_' and '-'")
        self.name = name
        self.text = text
        self.uses_task = re.search(r"\btask(s|_prompts)\b", text) is not None
        head = _HEAD.match(text)
        said = _VERSION.search(head[0] if head else "")
        self.version = said[1] if said else None
        self.digest = None if said else configuration.digest(text)

    @classmethod
    def read(cls, path: Path) -> "Relation":
        """The scorer in a file. Raises UsageError."""
        try:
            return cls(path.stem, path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise UsageError(f"{path}: {reason}", "name a .sql file with one SELECT") from None

    def verdict(self, row: Mapping[str, Any]) -> Verdict:
        """The verdict in a row of the relation. Raises BadVerdict."""
        reasons = row.get("reasons")
        reasons = [reasons] if isinstance(reasons, str) else reasons or [f"the rule {self.name} says so"]
        figures = row.get("sub_scores")
        try:
            figures = msgspec.json.decode(figures) if isinstance(figures, str) else figures
            wanted = {"category": row["category"], "reasons": reasons, "score": row.get("score"), "sub_scores": figures}
            return msgspec.convert(wanted, Verdict, strict=False)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            where = f"{self.name} on run {row['run_id']}"
            raise BadVerdict(f"{where}: {error}", "see docs/scoring.md for its columns") from None


def shipped() -> dict[str, str]:
    """The relations that come with the lake: name -> text, in name order."""
    found = sorted(files("views").joinpath("scorers").iterdir(), key=lambda one: one.name)
    return {one.name.removesuffix(".sql"): one.read_text("utf-8") for one in found if one.name.endswith(".sql")}
