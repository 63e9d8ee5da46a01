"""Runs that several processes share end as those that one process does alone."""

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

from tests.trainers.launching import ROOT, TORCHRUN, python
from tests.trainers.programs import drawn, of_grpo, writes_programs
from tests.trainers.toys import (
    ANSWER,
    PAIR,
    apart,
    done,
    judged,
    losses,
    pairs,
    settings,
    toy,
    write_shards,
    write_texts,
)
from trainers import record, spec


def said_of(folder: Path, method: str, out: str) -> spec.RunSpec:
    """The settings of a run of a method, each on rows of its own."""
    if method == "grpo":
        return of_grpo(folder / "programs", out)
    if method in spec.PACKED:
        lora = {"lora": {"r": 4}} if method == "lora" else {}
        stages = [{"rows": 4, "length": 64, "steps": 4}]
        return settings(folder, method, out, data={"built": "texts"}, stages=stages, **lora)
    return settings(folder, method, out, data={"built": "answers" if method == "kto" else "pairs"}, steps=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models, and rows for each kind of method."""
    made = toy(tmp_path_factory.mktemp("shared"))
    write_shards(made / "pairs", PAIR, pairs())
    write_shards(made / "answers", ANSWER, judged())
    write_texts(made / "texts")
    (made / "programs").mkdir()
    writes_programs(made / "programs")
    return made


@pytest.fixture(scope="module")
def bare(folder: Path) -> dict[str, str]:
    """Where Python looks for packages, so that it finds none of a lake's engines: as on a machine that trains."""
    for name in ("duckdb", "deltalake", "typer", "obstore"):
        (folder / "bare" / name).mkdir(parents=True)
        (folder / "bare" / name / "__init__.py").write_text(
            f"raise ModuleNotFoundError('no {name} here', name='{name}')"
        )
    return {"PYTHONPATH": f"{folder / 'bare'}{os.pathsep}{ROOT}"}


@pytest.fixture(scope="module")
def both(folder: Path, bare: dict[str, str]) -> dict[str, Path]:
    """The folder of a run of each method that two processes have shared."""
    for method in spec.METHODS:
        said_of(folder, method, f"two-{method}")
    files = {method: next(folder.rglob(f"two-{method}.toml")) for method in spec.METHODS}
    python(*TORCHRUN, 2, "-m", "tests.trainers.in_turn", *files.values(), environment=bare)
    return {method: file.with_suffix("") for method, file in files.items()}


@pytest.mark.parametrize("method", spec.METHODS)
def test_two_processes_do_what_one_does(method: str, folder: Path, both: dict[str, Path]) -> None:
    """They end with the same losses, weights and answers, on machines without DuckDB, Delta and typer."""
    shared = record.read(both[method])
    assert (shared.state, shared.sessions[0].world) == ("finished", 2)
    said = said_of(folder, method, f"one-{method}")
    assert done(said).plan.digest == shared.plan.digest
    assert np.allclose(losses(both[method]), losses(said.out), atol=1e-5)
    assert apart(both[method], said.out) < 1e-5
    if method == "grpo":
        assert drawn(both[method]) == drawn(said.out)


def test_two_processes_that_share_weights_do_what_one_does(folder: Path, bare: dict[str, str]) -> None:
    """So do two between which the example's settings of FSDP share the weights out."""
    said_of(folder, "sft", "sharing")
    example = (ROOT / "docs" / "examples" / "fsdp.yaml").read_text()
    here = example.replace("num_processes: 8", "num_processes: 2\nuse_cpu: true").replace(": bf16", ': "no"')
    (folder / "fsdp.yaml").write_text(here)
    launch = ("-m", "accelerate.commands.launch", "--config_file", folder / "fsdp.yaml", "--main_process_port", 0)
    python(*launch, "-m", "trainers", folder / "sharing.toml", environment=bare)
    shared = record.read(folder / "sharing")
    assert (shared.state, shared.sessions[0].world) == ("finished", 2)
    assert shared.sessions[0].launch["FSDP_VERSION"] == "2"
    alone = said_of(folder, "sft", "alone")
    done(alone)
    assert np.allclose(losses(folder / "sharing"), losses(alone.out), atol=1e-5)
    assert apart(folder / "sharing", alone.out) < 1e-5
