"""Finds what of the registered eval tasks is in other events.

An event overlaps an eval task if the two have in common

* a run of 13 words, of any text of the task: its description, starter code, tests or answer;
* the whole of a description of 5 to 12 words, or, of one that is shorter still, a field that says it and nothing else;
* eight in ten of the runs of five words that a description has, wherever they are: a copy in which words are changed.

Words are compared without regard to case, width and punctuation (`text`). `label` is `overlap` or `clean`, so that what
was not compared shows; `value` is the greatest share of a description's runs of five words that is there; `spans` say
where, and of which task; `extra` has the tasks. What a near copy is, is what the third rule says: a paraphrase is none.

13 words: Brown et al., "Language Models are Few-Shot Learners", 2020, appendix C.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.annotators.annotator import SPANS, Field, Finding, Known, Look, Span, Target
from ingest.annotators.shingles import Keys, WordHashes, runs
from ingest.annotators.text import located, words
from ingest.scorers.configuration import digest_of
from lake.errors import UsageError

CLEAN, OVERLAP = "clean", "overlap"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`run` words in common are an overlap, a shorter description of at least `shortest` as a whole, and so is `share`
    of a description's runs of `shingle` words.
    """

    run: int = 13
    shortest: int = 5
    shingle: int = 5
    share: float = 0.8

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.run or self.shingle < 1 or not 0 < self.share <= 1:
            raise UsageError(
                "these settings find no overlap", "1 <= shortest <= run, shingle is 1 or more, share above 0 up to 1"
            )


class Contamination:
    """The annotator."""

    name = "contamination"
    version = "1"
    kinds = ("evidence", "tasks", "prompts", "replay")
    known = Known.eval_tasks

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self.digest = digest_of(self.options)

    def over(self, known: Iterable[Target]) -> Look:
        """Look for the known tasks."""
        index = _Index(self.options, known)

        def look(targets: Sequence[Target]) -> Iterator[Finding]:
            return map(index.finding, targets)

        return look


class _Runs:
    """Runs of one length, sorted, each with the tasks that have it."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.owners: dict[int, set[int]] = defaultdict(set)
        self._sorted: Keys = np.empty(0, np.uint64)

    def add(self, hashed: Keys, owner: int) -> set[int]:
        found = set(runs([hashed], self.length)[0].tolist())
        for run in found:
            self.owners[run].add(owner)
        return found

    def settle(self) -> None:
        self._sorted = np.sort(np.fromiter(self.owners, np.uint64, len(self.owners)))

    def hits(self, hashed: Keys) -> list[tuple[int, int]]:
        """Where in a text runs begin that are known, each with the run."""
        if len(hashed) < self.length or not len(self._sorted):
            return []
        found = runs([hashed], self.length)[0]
        places: NDArray[np.intp] = np.searchsorted(self._sorted, found)
        places[places == len(self._sorted)] = 0
        at = np.flatnonzero(self._sorted[places] == found)
        return list(zip(at.tolist(), found[at].tolist(), strict=True))


class _Index:
    """What is known of the eval tasks, by the runs of words that give them away."""

    def __init__(self, options: Options, tasks: Iterable[Target]) -> None:
        self.options = options
        self.names: list[str] = []
        self._hashes = WordHashes()
        self._long = {options.run: _Runs(options.run)}  # by length: those of `run` words, and short descriptions
        self._pieces = _Runs(options.shingle)
        self._sizes: dict[int, int] = {}  # of each task's description, in pieces
        self._tiny: dict[tuple[str, ...], int] = {}
        for task in tasks:
            self._add(task)
        for one in (*self._long.values(), self._pieces):
            one.settle()

    def _add(self, task: Target) -> None:
        owner = len(self.names)
        self.names.append(task.task_id or task.event_id)
        for field in task.fields:
            found = words(field.text)
            hashed = self._hashes.of(found)
            if len(found) >= self.options.run:
                self._long[self.options.run].add(hashed, owner)
            elif field.name == "description":
                if len(found) >= self.options.shortest:
                    self._long.setdefault(len(found), _Runs(len(found))).add(hashed, owner)
                elif found:
                    self._tiny.setdefault(tuple(found), owner)
            if field.name == "description" and len(found) >= self.options.shingle:
                self._sizes[owner] = len(self._pieces.add(hashed, owner))

    def finding(self, target: Target) -> Finding:
        """What of the tasks is in an event."""
        runs_found: dict[int, list[tuple[Field, int, int]]] = defaultdict(list)
        pieces_found: dict[int, list[tuple[Field, int, int]]] = defaultdict(list)
        distinct: dict[int, set[int]] = defaultdict(set)
        for field in target.fields:
            found = words(field.text)
            if len(found) < self.options.shortest and (owner := self._tiny.get(tuple(found))) is not None:
                runs_found[owner].append((field, 0, len(found)))
            hashed = self._hashes.of(found)
            for length, known in self._long.items():
                for place, run in known.hits(hashed):
                    for owner in known.owners[run]:
                        runs_found[owner].append((field, place, place + length))
            for place, run in self._pieces.hits(hashed):
                for owner in self._pieces.owners[run]:
                    pieces_found[owner].append((field, place, place + self.options.shingle))
                    distinct[owner].add(run)
        shares = {owner: len(there) / self._sizes[owner] for owner, there in distinct.items()}
        copied = {owner for owner, share in shares.items() if share >= self.options.share}
        owners = sorted(runs_found.keys() | copied)
        greatest = max(shares.values(), default=0.0)
        if not owners:
            return Finding(CLEAN, greatest)
        spans = [
            span
            for owner in owners
            for span in self._spans(self.names[owner], runs_found.get(owner) or pieces_found[owner])
        ]
        tasks = sorted({self.names[owner] for owner in owners})
        return Finding(OVERLAP, greatest, tuple(spans[:SPANS]), {"tasks": tasks[:SPANS], "number": len(tasks)})

    def _spans(self, task: str, found: Sequence[tuple[Field, int, int]]) -> Iterator[Span]:
        """The words found, as characters of their fields; those that touch are one span."""
        by_field: dict[Field, list[tuple[int, int]]] = defaultdict(list)
        for field, start, end in found:
            by_field[field].append((start, end))
        for field, places in by_field.items():
            there = located(field.text)
            merged: list[list[int]] = []
            for start, end in sorted(places):
                if merged and start <= merged[-1][1]:
                    merged[-1][1] = max(merged[-1][1], end)
                else:
                    merged.append([start, end])
            for start, end in merged:
                yield Span(there[start].start, there[end - 1].end, field.name, task)
