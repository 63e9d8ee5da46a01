"""What `lake audit` says of a run: that all is well where it is, and what is not where something was broken."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from trainers import audit as looking  # noqa: E402
from trainers import batches, causal, pipeline, shards, spec  # noqa: E402

Settings = Callable[..., spec.RunSpec]


def results(said: spec.RunSpec) -> dict[str, str]:
    """What each check came to, by what must hold."""
    return {one.must: one.result for one in looking.audit(said).findings}


def keys(kind: Any, before: str = "") -> Iterator[str]:
    """The dotted keys of a run's file."""
    for field in msgspec.structs.fields(kind):
        yield f"{before}{field.name}"
        inner = spec.struct_in(field.type)
        if inner is not None:
            yield from keys(inner, f"{before}{field.name}.")


def test_every_setting_belongs_to_a_boundary() -> None:
    """Each key of a run's file stands at exactly one boundary, by itself or with its table."""
    placed = [key for place in pipeline.BOUNDARIES.values() for key in place.settings]
    assert len(placed) == len(set(placed))
    known = set(keys(spec.RunSpec))
    assert set(placed) <= known
    leaves = {key for key in known if not any(other.startswith(f"{key}.") for other in known)}
    assert all(any(leaf == key or leaf.startswith(f"{key}.") for key in placed) for leaf in leaves)


def test_a_run_that_is_well_passes(settings: Settings) -> None:
    """Nothing fails on a run of shards that fit its model, adapters or not, and each owner is found in a file."""
    found = looking.audit(settings("none"))
    assert found.ok
    assert {one.result for one in found.findings} == {"pass", "skip"}
    for boundary in found.boundaries:
        for owner in boundary.owners:
            file, _, line = owner.split(" ")[0].partition(":")
            assert (Path(looking.__file__).parents[1] / file).is_file()
            assert int(line) > 0
    assert not Path(settings("none").out).exists()
    Path(settings("none").out).mkdir()
    (Path(settings("none").out) / "run.json").touch()  # a run that has begun may be looked at, too
    adapted = results(settings("none", method="lora", lora={"r": 2}))
    assert "fail" not in adapted.values()
    assert adapted["adapters are on all that they are meant for, and a loss reaches each"] == "pass"


def rewritten(ground: Path, tmp_path: Path, change: Callable[[int, np.ndarray], np.ndarray], **told: int) -> Path:
    """The shards with some rows changed, written anew and whole."""
    made = shards.Shards.open(ground / "built")
    with shards.writing(tmp_path / "other", ["text"]) as writer:
        for row in range(made.description.rows):
            ids, trained = made.fields["text"].row(row)
            writer.add({"id": f"row-{row}"}, {"text": (change(row, ids), trained)})
        writer.finish({}, {"offered": 60, "kept": 60, **told})
    return tmp_path / "other"


def test_what_is_broken_is_named(settings: Settings, ground: Path, tmp_path: Path) -> None:
    """Bytes that changed, rows that got lost and ids beyond the vocabulary each fail, and say where."""
    folder = tmp_path / "flipped"
    shutil.copytree(ground / "built", folder)
    data = bytearray((folder / "text.tokens.npy").read_bytes())
    data[-3] ^= 1
    (folder / "text.tokens.npy").write_bytes(data)
    found = {one.must: one for one in looking.audit(settings("none", data={"built": str(folder)})).findings}
    changed = found["shards have the bytes that were written"]
    assert changed.result == "fail"
    assert "text.tokens.npy" in changed.where
    assert found["every token id is below the size of the vocabulary"].result == "fail"
    lost = rewritten(ground, tmp_path, lambda _, ids: ids, offered=61)
    told = results(settings("none", data={"built": str(lost)}))
    assert told["every row that was offered is kept, or counted with what became of it"] == "fail"


def test_a_label_at_a_beginning_is_found(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches whose labels lie about a document's beginning fail the check of masks."""
    honest = batches.packed

    def careless(*args: Any) -> dict[str, np.ndarray]:
        made = honest(*args)
        return {**made, "labels": np.where(made["position_ids"] == 0, made["input_ids"], made["labels"])}

    monkeypatch.setattr(causal.batches, "packed", careless)
    found = results(settings("none"))
    assert found["ids, positions and labels stand at the same places, and say what the shards do"] == "fail"
    assert found["the loss of packed rows is the mean over the tokens of their documents alone"] == "fail"
