"""Finds an annotator by its name."""

from pathlib import Path

from ingest.annotators import contamination, near_duplicate
from ingest.annotators.annotator import Annotator
from ingest.annotators.contamination import Contamination
from ingest.annotators.language import Language
from ingest.annotators.near_duplicate import NearDuplicate
from ingest.annotators.pii import Pii
from ingest.scorers import configuration
from lake.errors import UsageError

SEE = "docs/quality.md"
NAMES = ("contamination", "near-duplicate", "pii", "language")


def find(name: str, config: Path | None = None) -> Annotator:
    """The annotator of this name, set up by a configuration file (TOML or JSON) if one is given. Raises UsageError."""
    if name == "contamination":
        return Contamination(configuration.read(config, contamination.Options, SEE) if config else None)
    if name == "near-duplicate":
        return NearDuplicate(configuration.read(config, near_duplicate.Options, SEE) if config else None)
    if name not in NAMES:
        raise UsageError(f"there is no annotator {name!r}", f"the annotators are {', '.join(NAMES)}, or all")
    if config is not None:
        raise UsageError(
            f"the annotator {name} takes no configuration", "those that do are contamination and near-duplicate"
        )
    return Pii() if name == "pii" else Language()
