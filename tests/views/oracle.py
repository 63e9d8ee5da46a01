"""What the relations must say, folded from the same events in plain Python, one event after another.

Written from the rules, not from the SQL: loops, dictionaries and sorts, no regard for speed.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import product
from typing import Any

from views import Policy

Row = dict[str, Any]
LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
CAUTION = ["rejected", "needs_human_review", "partially_accepted", "accepted"]
ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def age(event: Row) -> tuple[bool, datetime, str]:
    """Sorts older before newer; an unknown time is the oldest."""
    return event["recorded_at"] is not None, event["recorded_at"] or LONG_AGO, event["event_id"]


def version(text: str) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall("[0-9]+", text)], text


def blank(text: str | None) -> bool:
    return text is None or text.strip() == ""


def sha(text: str, length: int = 64) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


class Oracle:
    """The relations as lists of rows, each computed once and kept."""

    def __init__(self, events: Mapping[str, list[Row]], policy: Policy) -> None:
        self.policy = policy
        self.retractions = self._active(events["retractions"])
        self.evidence = [row for row in events["evidence"] if self._stands(row)]
        self.scores = [row for row in events["scores"] if self._stands(row)]
        self.tasks = [row for row in events["tasks"] if self._stands(row)]
        self.rejects = [row for row in events["rejects"] if self._stands(row, by=("event", "source"))]
        self.verdicts = {run_id: self._verdict(run_id) for run_id in {row["run_id"] for row in self.scores}}
        self.newest = self._newest(self.evidence, "run_id")
        self.prompts = self._prompts()
        self.quarantine: list[Row] = []
        self.considered: set[tuple[str, str, str]] = set()
        self.sft = self._dataset("sft")
        self.rag = self._dataset("rag")
        self.usable = self._dataset("preference")
        self.preference, self.unpaired = self._pairs()

    # Facts

    @staticmethod
    def _active(retractions: list[Row]) -> list[Row]:
        gone = {row["target"] for row in retractions if row["target_type"] == "event"}
        return [row for row in retractions if row["event_id"] not in gone]

    def _stands(self, row: Row, by: tuple[str, ...] = ("event", "run", "task", "source")) -> bool:
        is_called = {
            "event": row["event_id"],
            "run": row.get("run_id"),
            "task": row.get("task_id"),
            "source": (row["source"] or {}).get("file"),
        }
        return not any(
            retraction["target_type"] in by and is_called[retraction["target_type"]] == retraction["target"]
            for retraction in self.retractions
        )

    # State

    @staticmethod
    def _newest(rows: list[Row], key: str) -> dict[str, Row]:
        return {row[key]: row for row in sorted(rows, key=age)}

    def _verdict(self, run_id: str) -> Row:
        by_scorer: dict[str, Row] = {}
        for row in sorted(
            (row for row in self.scores if row["run_id"] == run_id),
            key=lambda row: (version(row["scorer_version"]), age(row)),
        ):
            by_scorer[row["scorer"]] = row
        listed = self.policy.precedence

        def rank(row: Row) -> tuple[int, int]:
            place = listed.index(row["scorer"]) if row["scorer"] in listed else len(listed)
            return place, CAUTION.index(row["category"])

        opinions = sorted(by_scorer.values(), key=lambda row: row["event_id"], reverse=True)
        winner = min(opinions, key=rank)
        dissent = sum(row["category"] != winner["category"] for row in opinions)
        return {**winner, "scorers": len(opinions), "dissenting": dissent}

    def category(self, run_id: str) -> str | None:
        return self.verdicts[run_id]["category"] if run_id in self.verdicts else None

    def runs(self) -> list[Row]:
        return list(self.newest.values())

    def _prompts(self) -> dict[str, str]:
        prompts = {}
        for task_id, row in self._newest(self.tasks, "task_id").items():
            parts = [row[name] for name in ("description", "starter_code") if not blank(row[name])]
            if parts:
                prompts[task_id] = "\n\n".join(parts)
        return prompts

    @staticmethod
    def chat(row: Row) -> Row:
        """A run's conversation: whether it is one, what comes before the last turn, the last turn, the tools."""
        try:
            turns = json.loads(row["messages"])
        except (TypeError, ValueError):
            turns = None
        read = []
        sound = isinstance(turns, list) and turns != []
        for element in turns if isinstance(turns, list) else ():
            turn = element if isinstance(element, dict) else {}
            content = turn.get("content")
            if isinstance(content, list):
                text = "".join(str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)
            else:
                text = content if isinstance(content, str) else ""
            if not text and turn.get("tool_calls") is not None:
                text = json.dumps(turn["tool_calls"], separators=(",", ":"), ensure_ascii=False)
            sound = sound and turn.get("role") in ROLES and isinstance(content, str | list | None)
            read.append((turn.get("role"), text))
        request = None
        if len(read) == 2 and read[0][0] == "user":
            request = read[0][1]
        elif read:
            request = "\n\n".join(f"{role}: {text}" for role, text in read[:-1])
        return {
            "sound": sound and read[-1][0] == "assistant",
            "request": request,
            "reply": read[-1][1] if read else None,
        }

    def own_prompt(self, row: Row) -> str | None:
        if not blank(row["prompt"]):
            return row["prompt"]
        request = self.chat(row)["request"]
        return None if blank(request) else request

    def prompt(self, row: Row) -> str:
        own = self.own_prompt(row)
        if own is not None:
            return own
        line = "Task: " + row["task_id"]
        if row["source_files"] and row["source_files"][0] is not None:
            line += " · file=" + row["source_files"][0]
        return self.prompts.get(row["task_id"], line)

    def response(self, row: Row) -> str:
        return row["text"] if not blank(row["text"]) else self.chat(row)["reply"] or ""

    # Datasets

    def errors(self, row: Row, dataset: str) -> list[str]:
        """All that keeps an evidence event out of a dataset, the first the one that counts."""
        category = self.category(row["run_id"])
        source = row["source"] or {}
        found = []
        if self.newest[row["run_id"]] is not row:
            found.append("duplicate_id")
        if not source.get("file") or not source.get("sha256"):
            found.append("missing_provenance")
        verdict_task = self.verdicts[row["run_id"]]["task_id"] if category else None
        if (row["messages"] is not None and not self.chat(row)["sound"]) or verdict_task not in (None, row["task_id"]):
            found.append("schema_violation")
        if blank(self.response(row)):
            found.append("empty_content")
        known = self.policy.known_files
        if known is not None and any(path not in known for path in row["source_files"] or () if path is not None):
            found.append("hallucinated_file_path")
        if dataset == "sft" and row["role"] == "extractor":
            found.append("missing_source_run_id")
        found += self.unsafe(category, dataset)
        if dataset == "sft" and not (
            row["role"] in ("executor", "applier") or (row["role"] == "reviewer" and category is not None)
        ):
            found.append("category_disallowed")
        return found

    def unsafe(self, category: str | None, dataset: str) -> list[str]:
        safe = {
            "sft": {"accepted"} | ({"partially_accepted"} if self.policy.include_partial else set()),
            "rag": {"accepted", "partially_accepted"}
            | ({"needs_human_review"} if self.policy.include_review else set()),
            "preference": {"accepted", "partially_accepted", "rejected"},
        }[dataset]
        if category in safe:
            return []
        return ["category_disallowed" if dataset == "preference" else f"unsafe_{dataset}_category"]

    def _dataset(self, dataset: str) -> list[Row]:
        """The evidence that a dataset takes; what it does not take goes to quarantine."""
        taken = []
        for row in self.evidence:
            errors = self.errors(row, dataset)
            if errors or dataset != "preference":
                self.considered.add((dataset, "event", row["event_id"]))
            if errors:
                self._refuse(dataset, "event", row["event_id"], errors, row)
            else:
                taken.append(row)
        for run_id, verdict in self.verdicts.items():
            if run_id not in self.newest:
                errors = ["missing_source_run_id", *self.unsafe(verdict["category"], dataset)]
                self.considered.add((dataset, "run", run_id))
                self._refuse(dataset, "run", run_id, errors, verdict)
        return taken

    def _refuse(self, dataset: str, record_type: str, record_id: str, errors: list[str], row: Row) -> None:
        self.quarantine.append(
            {
                "dataset": dataset,
                "reason": errors[0],
                "errors": errors,
                "record_type": record_type,
                "record_id": record_id,
                "run_id": row["run_id"],
                "task_id": row["task_id"],
                "event_id": row["event_id"],
                "source": row["source"],
                "recorded_at": row["recorded_at"],
            }
        )

    # Pairs

    def _pairs(self) -> tuple[list[Row], dict[str, str]]:
        tasks: dict[str, list[Row]] = defaultdict(list)
        for row in self.usable:
            tasks[row["task_id"]].append(row)
        pairs: list[Row] = []
        unpaired: dict[str, str] = {}
        for task_id in {row["task_id"] for row in self.evidence}:
            found, looked_at = self._pairs_of(tasks[task_id])
            pairs += found
            if not found:
                unpaired[task_id] = self._why_none(task_id, tasks[task_id], looked_at)
        return pairs, unpaired

    def _pairs_of(self, rows: list[Row]) -> tuple[list[Row], int]:
        looked_at = 0
        for rival in ("rejected", "partially_accepted"):
            grid = []
            for prompt in {self.own_prompt(row) for row in rows}:
                sides = [self._side(rows, prompt, category) for category in ("accepted", rival)]
                key = "" if prompt is None else hashlib.md5(prompt.encode()).hexdigest()
                grid += [(number, key, *pair) for number, pair in enumerate(self._walk(*sides))]
            looked_at += len(grid)
            valid = []
            for _, _, chosen, rejected in sorted(grid, key=lambda cell: cell[:2]):
                if self.response(chosen).strip() == self.response(rejected).strip():
                    pair_id = self._pair_id(chosen, rejected)
                    self.considered.add(("preference", "pair", pair_id))
                    self._refuse("preference", "pair", pair_id, ["invalid_preference_pairing"], chosen)
                else:
                    valid.append(self._pair(chosen, rejected, rival))
            if valid:
                kept = valid[: self.policy.pairs_per_task]
                self.considered |= {("preference", "pair", pair["id"]) for pair in kept}
                return kept, looked_at
        return [], looked_at

    def _side(self, rows: list[Row], prompt: str | None, category: str) -> list[Row]:
        """The first runs of one side, one of each text before a second of any."""
        texts: dict[str, list[Row]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: row["run_id"]):
            if self.own_prompt(row) == prompt and self.category(row["run_id"]) == category:
                texts[self.response(row).strip()].append(row)
        side: list[Row] = []
        while texts:
            side += sorted((runs.pop(0) for runs in texts.values()), key=lambda row: row["run_id"])
            texts = defaultdict(list, {text: runs for text, runs in texts.items() if runs})
        return side[: 2 * self.policy.pairs_per_task]

    @staticmethod
    def _walk(chosen: list[Row], rejected: list[Row]) -> list[tuple[Row, Row]]:
        """All cells of the grid: in each lap every run of the longer side once, those of the shorter in turn."""
        swap = len(chosen) > len(rejected)
        short, long = (rejected, chosen) if swap else (chosen, rejected)
        cells = [
            (short[(place + lap) % len(short)], long[place])
            for lap, place in product(range(len(short)), range(len(long)))
        ]
        return [(after, before) if swap else (before, after) for before, after in cells]

    @staticmethod
    def _pair_id(chosen: Row, rejected: Row) -> str:
        return "pref-" + sha(f"{chosen['run_id']}|{rejected['run_id']}|{chosen['task_id']}", 16)

    def _pair(self, chosen: Row, rejected: Row, rival: str) -> Row:
        def opinion(row: Row, category: str) -> str:
            reasons = self.verdicts[row["run_id"]]["reasons"]
            return category + (f": {reasons[0][:80]}" if reasons and reasons[0] is not None else "")

        times = [row["recorded_at"] for row in (chosen, rejected) if row["recorded_at"] is not None]
        return {
            "schema_version": 1,
            "id": self._pair_id(chosen, rejected),
            "prompt": self.prompt(chosen),
            "chosen": self.response(chosen),
            "rejected": self.response(rejected),
            "reason": f"{opinion(chosen, 'accepted')} | {opinion(rejected, rival)}",
            "chosen_run_id": chosen["run_id"],
            "rejected_run_id": rejected["run_id"],
            "task_id": chosen["task_id"],
            "sig_hash": sha("|".join(sorted([chosen["run_id"], rejected["run_id"]]))),
            "created_at": max(times, default=None),
            "provenance": {"chosen": chosen["source"], "rejected": rejected["source"]},
            "chosen_event_id": chosen["event_id"],
            "rejected_event_id": rejected["event_id"],
        }

    def _why_none(self, task_id: str, usable: list[Row], looked_at: int) -> str:
        categories = {self.category(row["run_id"]) for row in usable}
        if len({row["run_id"] for row in self.evidence if row["task_id"] == task_id}) < 2:
            return "one_run"
        if len(usable) < 2:
            return "too_few_usable_runs"
        if "accepted" not in categories:
            return "nothing_accepted"
        if categories == {"accepted"}:
            return "nothing_to_set_against"
        return "identical_texts" if looked_at else "no_common_prompt"

    # Health

    def health(self) -> Counter[tuple[str | None, ...]]:
        def file(row: Row) -> str | None:
            return (row["source"] or {}).get("file")

        counts: Counter[tuple[str | None, ...]] = Counter()
        for row in self.rejects:
            counts["rejected input", None, file(row), None, row["reason"]] += 1
        for row in self.evidence:
            counts["evidence", None, file(row), None, None] += 1
        for row in self.runs():
            counts["run", None, file(row), self.category(row["run_id"]) or "unscored", None] += 1
        for row in self.quarantine:
            counts["quarantined", row["dataset"], file(row), None, row["reason"]] += 1
        for dataset, rows in (("sft", self.sft), ("rag", self.rag)):
            for row in rows:
                counts["exported", dataset, file(row), self.category(row["run_id"]), None] += 1
        for pair in self.preference:
            counts["exported", "preference", (pair["provenance"]["chosen"] or {}).get("file"), "accepted", None] += 1
        for reason in self.unpaired.values():
            counts["task without a pair", "preference", None, None, reason] += 1
        return counts
