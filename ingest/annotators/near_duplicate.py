"""Finds evidence that asks and answers nearly what earlier evidence does.

`label` is the id of the event that is kept in its stead, `value` the Jaccard similarity of the two; both are null for
one that is kept. What has been kept stays kept, so an event's finding does not change as the lake grows.

A text here is what was asked and all that was said; what was asked is the task's where the event does not say.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ingest.annotators.annotator import Finding, Known, Look, Target
from ingest.annotators.minhash import NearDuplicates
from ingest.scorers.configuration import digest_of


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """From which Jaccard similarity of the runs of `shingle` words on one of two is enough."""

    threshold: float = 0.8
    shingle: int = 5


class NearDuplicate:
    """The annotator. Raises UsageError for a threshold or a shingle that is none."""

    name = "near-duplicate"
    version = "1"
    kinds = ("evidence",)
    known = Known.kept

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self.digest = digest_of(self.options)
        NearDuplicates(self.options.threshold, self.options.shingle)

    def over(self, known: Iterable[Target]) -> Look:
        """Look for near copies of the known events, and of those looked at before."""
        finder = NearDuplicates(self.options.threshold, self.options.shingle)
        kept = set()
        for target in known:
            finder.keep(target.event_id, whole(target))
            kept.add(target.event_id)

        def look(targets: Sequence[Target]) -> Iterator[Finding]:
            matches = finder.matches((target.event_id, whole(target)) for target in targets)
            for target, match in zip(targets, matches, strict=True):
                # One that was kept is looked at again where its task asks something else by now, and stays kept.
                if match is None or target.event_id in kept:
                    yield Finding()
                else:
                    yield Finding(match.kept, match.similarity)

        return look


def whole(target: Target) -> str:
    """All that an event says, what was asked first. What is only carried along counts where there is nothing else."""
    said = [field for field in target.fields if not field.name.startswith("extra")]
    asked = any(field.name == "prompt" or field.name.startswith("messages") for field in said)
    first = [target.asked] if target.asked and not asked else []
    return "\n\n".join([*first, *(field.text for field in said or target.fields)])
