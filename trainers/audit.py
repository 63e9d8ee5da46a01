"""Looks at a run before it begins: whether what must hold does.

The checks run on the very shards, plan and model of the run; each says what must hold, and where it does not. Nothing
is trained, and nothing is written but shards that are not there yet.

Not here: the checks (`checks`), who does what in a run (`pipeline`), and the tests of all this on made-up data, which
are beside the project.
"""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import msgspec

from lake.errors import LakeError
from trainers.checks import CHECKS, Check
from trainers.pipeline import Boundary, map_of
from trainers.scene import NotHere, Scene
from trainers.spec import RunSpec

_NAMED = 3  # faults of a check that are named


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold of a boundary, and what was found: `pass`; `fail`, and `where`; or `skip`, and why."""

    boundary: str
    must: str
    result: str
    where: str = ""


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of a run."""

    boundaries: tuple[Boundary, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing that must hold fails."""
        return all(one.result != "fail" for one in self.findings)


def audit(spec: RunSpec, progress: Callable[[int, int | None], None] | None = None) -> Audit:
    """Look at a run. `progress` is told the checks done. Raises LakeError where its settings give no run at all."""
    scene = Scene(spec)
    _ = scene.job
    findings = []
    out = Path(spec.out)
    new = not out.exists()
    for number, check in enumerate(CHECKS):
        findings.append(_found(scene, check))
        if progress is not None:
            progress(number + 1, len(CHECKS))
    if new and out.is_dir():
        out.rmdir()  # a trainer makes its folder as soon as it is there
    return Audit(boundaries=tuple(map_of(spec)), findings=tuple(findings))


def _found(scene: Scene, check: Check) -> Finding:
    try:
        faults = list(islice(check.faults(scene), _NAMED))
    except NotHere as why:
        return Finding(boundary=check.boundary, must=check.must, result="skip", where=str(why))
    except (LakeError, OSError) as error:
        faults = [error.message if isinstance(error, LakeError) else str(error)]
    result = "fail" if faults else "pass"
    return Finding(boundary=check.boundary, must=check.must, result=result, where="; ".join(faults))
