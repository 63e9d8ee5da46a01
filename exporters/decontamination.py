"""How an export stands with the registered eval tasks, which its receipt and its card say; and when it is refused.

The gate bars what overlaps a task, and what nobody compared (the views); a whole comparison that is older than the
tasks is no matter of single rows, so the export is refused instead.

Not here: what an overlap is (`ingest.annotators.contamination`).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from lake.errors import LakeError
from views.policy import Policy

RELATION = "decontamination"
GATE = "contamination"

Connection = Any  # what views.connect opens; its type has a name on that floor alone


class Standing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The eval tasks, by their version, and the evidence that was `compared` with them; `gate` bars what is not clean.

    `version` is None where no task is registered.
    """

    gate: bool
    version: str | None
    eval_tasks: int
    evidence: int
    compared: int
    contaminated: int


class Unchecked(LakeError):
    """The gate against contamination is shut, and what was compared is older than the newest eval tasks, or nothing."""


def standing(con: Connection, sql: Mapping[str, str], policy: Policy) -> Standing | None:
    """How the pinned evidence stands; None under older rules, which knew of no eval tasks. Raises Unchecked."""
    if RELATION not in sql:
        return None
    gate = GATE in policy.quality.gates
    found = con.execute(f"select eval_version, tasks, evidence, compared, contaminated from {RELATION}").fetchall()
    made = Standing(gate, *found[0]) if found else Standing(gate, None, 0, 0, 0, 0)
    if gate and made.version is None:
        splits = " or ".join(policy.quality.eval_splits)
        raise Unchecked(
            "the gate against contamination is shut, and no eval task is registered; nothing was written",
            f"ingest the eval tasks, with {splits} as their split, and run 'lake annotate contamination'",
        )
    if gate and made.evidence and not made.compared:
        raise Unchecked(
            f"no evidence was compared with the eval tasks as they are now ({made.version}); nothing was written",
            "run 'lake annotate contamination'",
        )
    return made


def lines(said: Standing | None) -> list[str]:
    """What the card says."""
    if said is None:
        return []
    if said.version is None:
        return ["", "Decontamination: no eval task is registered, so nothing was compared with any."]
    done = f"{said.compared} of {said.evidence} evidence events were compared with the {said.eval_tasks} registered"
    overlap = f"eval tasks (version `{said.version}`), and {said.contaminated} overlap them or are of them."
    after = "Those, and what was not compared, are not here." if said.gate else "The gate is open: they may be here."
    return ["", f"Decontamination: {done} {overlap} {after}"]
