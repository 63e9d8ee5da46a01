"""What `lake audit` says of a run: that all is well where it is, and what is not where something was broken."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from cli.sample import sums  # noqa: E402
from lake import Lake  # noqa: E402
from tests.trainers import toys  # noqa: E402
from tests.trainers.made_runs import filled  # noqa: E402
from tests.trainers.programs import of_grpo, writes_programs  # noqa: E402
from trainers import audit as looking  # noqa: E402
from trainers import causal, checks, pipeline, plan, run, shards, spec, toy  # noqa: E402

# transformers 5.23 renames it, and TRL and PEFT call it by the old name.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:`(is_)?gradient_checkpointing\w*` is deprecated and will be removed in v6:FutureWarning"
)

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


class Row:
    """A row of text that is to be written: its id, its tokens, which of them count, and its task."""

    def __init__(self, name: str, size: int, task: str | None = None) -> None:
        self.name, self.task = name, task
        self.ids = (np.arange(size) * 7) % 40 + 2
        self.counted = np.arange(size) % 4 > 0


def written(folder: Path, change: Callable[[list[Row], list[Row]], object], offered: int = 20) -> str:
    """Shards of twenty rows and of five that are held out, once somebody has changed them."""
    rows = [Row(f"row-{number}", 6 + number, f"task-{number}") for number in range(20)]
    held_out = [Row(f"held-{number}", 9 + number, f"other-{number}") for number in range(5)]
    change(rows, held_out)
    for split, some, count in ((shards.TRAIN, rows, offered), (shards.VALIDATION, held_out, len(held_out))):
        with shards.writing(folder / split, ["text"]) as writer:
            for row in some:
                writer.add({"id": row.name, "task_id": row.task}, {"text": (row.ids, row.counted)})
            writer.finish({"dataset": "made up"}, {"offered": count, "kept": len(some)}, split)
    return str(folder)


def faults(said: spec.RunSpec) -> dict[str, str]:
    """What fails, and where."""
    return {one.must: one.where for one in looking.audit(said).findings if one.result == "fail"}


def a_row_twice(rows: list[Row], _: list[Row]) -> None:
    """Give two rows one id."""
    rows[3].name = rows[4].name


def a_task_on_both_sides(rows: list[Row], held_out: list[Row]) -> None:
    """Hold a row of a task out that is trained on."""
    held_out[2].task = rows[7].task


def a_row_on_both_sides(rows: list[Row], held_out: list[Row]) -> None:
    """Hold a row out that is trained on."""
    held_out[2].name = rows[7].name


def nothing_to_learn(rows: list[Row], _: list[Row]) -> None:
    """Let a loss count a row's first token alone, which nobody can learn to say."""
    rows[5].counted = np.arange(len(rows[5].ids)) == 0


def unknown_words(_: list[Row], held_out: list[Row]) -> None:
    """Give a row that is held out a token that no model of these tests has."""
    held_out[1].ids[3] = 999


@pytest.mark.parametrize(
    ("change", "must", "where"),
    [
        (a_row_twice, "the order is drawn from the rows' own ids", "train: 1 rows are there more than once"),
        (a_task_on_both_sides, "nothing that is held out is trained on", "task_id task-7 is on both sides"),
        (a_row_on_both_sides, "nothing that is held out is trained on", "id row-7 is on both sides"),
        (nothing_to_learn, "every row has something to learn", "train: text of row 5"),
        (unknown_words, "its trainer can be made", "validation: text has the token id 999"),
    ],
)
def test_rows_that_are_wrong_are_named(
    change: Callable[[list[Row], list[Row]], None], must: str, where: str, settings: Settings, tmp_path: Path
) -> None:
    """Shards that say of themselves what they should, and hold something else: one check fails, and says where."""
    [(failed, found)] = faults(settings("none", data={"built": written(tmp_path / "made", change)})).items()
    assert failed.startswith(must)
    assert where in found


def test_rows_that_are_right_are_not(settings: Settings, tmp_path: Path) -> None:
    """The same rows, unchanged, fail nothing, packed or cut, and in several stages."""
    built = written(tmp_path / "made", lambda *_: None)
    assert faults(settings("none", data={"built": built})) == {}
    stages = [{"rows": 4, "length": 8, "steps": 3}, {"rows": 2, "length": 16, "steps": 2}, {"rows": 1, "length": 32}]
    assert faults(settings("none", method="pretrain", data={"built": built}, stages=stages)) == {}


def test_a_row_that_got_lost_is_missed(settings: Settings, tmp_path: Path) -> None:
    """What was offered, and neither kept nor dropped, is a fault."""
    built = written(tmp_path / "made", lambda *_: None, offered=21)
    [(failed, where)] = faults(settings("none", data={"built": built})).items()
    assert failed.startswith("every row that was offered is kept")
    assert "21 offered, 20 kept and 0 dropped" in where


def test_bytes_that_changed_are_found(settings: Settings, ground: Path, tmp_path: Path) -> None:
    """A file that is not what was written is named."""
    folder = tmp_path / "flipped"
    shutil.copytree(ground / "built", folder)
    data = bytearray((folder / "text.trained.npy").read_bytes())
    data[-3] ^= 1
    (folder / "text.trained.npy").write_bytes(data)
    [(failed, where)] = faults(settings("none", data={"built": str(folder)})).items()
    assert failed == "shards have the bytes that were written"
    assert "text.trained.npy" in where


def test_keys_of_other_rows_are_found(settings: Settings, ground: Path, tmp_path: Path) -> None:
    """An order that was drawn from something else than the ids is found, though every byte is as it was written."""
    folder = tmp_path / "turned"
    shutil.copytree(ground / "built", folder)
    np.save(folder / "keys.npy", np.load(folder / "keys.npy")[::-1])
    sealed(folder)
    [(failed, where)] = faults(settings("none", data={"built": str(folder)})).items()
    assert failed.startswith("the order is drawn")
    assert "keys that are not those" in where


def sealed(folder: Path) -> None:
    """Make a folder of shards say of itself what is in it now."""
    path = folder / shards.NAME
    said = msgspec.json.decode(path.read_bytes())
    for name in said["files"]:
        data = (folder / name).read_bytes()
        said["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_bytes(msgspec.json.encode(said))


def test_shards_that_are_not_their_rows_are_found(tmp_path: Path) -> None:
    """Shards of a snapshot, under their own key, whose marks or tokens are not what its rows become."""
    toy.make(tmp_path / "model", list(sums.problems(20)))
    lake = filled(Lake.create(str(tmp_path / "lake")))
    lake.name(lake.pin(), "first")
    data = {"built": None, "lake": "lake", "snapshot": "first", "val": 0.3}
    model = {"config": "model/config.json", "tokenizer": "model"}
    said = toys.settings(tmp_path, "sft", "none", data=data, model=model, stages=[{"rows": 2, "length": 256}])
    folder = run.prepare(said).shards.folder
    found = results(said)
    assert "fail" not in found.values()
    must = "the first rows, rendered once more, have the tokens and the marks of the shards"
    assert found[must] == "pass"
    for name, told in (("trained", "text of sft-"), ("tokens", "text of sft-")):
        whole = (folder / f"text.{name}.npy").read_bytes()
        array = np.load(folder / f"text.{name}.npy")
        array[2] = not array[2] if name == "trained" else array[2] + 1
        np.save(folder / f"text.{name}.npy", array)
        sealed(folder)
        [(failed, where)] = faults(said).items()
        assert failed == must
        assert told in where
        (folder / f"text.{name}.npy").write_bytes(whole)


def careless(batch: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Batches that label a document's first token, too."""

    def made(*args: Any) -> dict[str, Any]:
        whole = batch(*args)
        return {**whole, "labels": np.where(whole["position_ids"] == 0, whole["input_ids"], whole["labels"])}

    return made


def shifted(batch: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Batches in which two tokens changed places, with all that is said of them."""

    def made(*args: Any) -> dict[str, Any]:
        whole = {name: array.copy() for name, array in batch(*args).items()}
        whole["input_ids"][0, [3, 4]] = whole["input_ids"][0, [4, 3]]
        return whole

    return made


@pytest.mark.parametrize(("change", "what"), [(careless, "labels"), (shifted, "input_ids")])
def test_batches_that_are_not_the_shards_are_found(
    change: Any, what: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrays of a step that differ from its pieces fail, and so does the loss that is of something else then."""
    monkeypatch.setattr(causal.batches, "packed", change(causal.batches.packed))
    found = faults(settings("none"))
    assert f"{what} are others" in next(where for one, where in found.items() if one.startswith("ids, positions and"))
    assert any(one.startswith("the loss of packed rows") for one in found)


def test_a_plan_that_cuts_examples_is_found(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is laid out of a row is all of it: an example that is cut is found, and a piece of what is not there."""
    built = written(tmp_path / "made", lambda *_: None)
    said = settings("none", data={"built": built}, stages=[{"rows": 4, "length": 32}])
    must = "what is laid out of a row is all of it, in one piece where examples stay whole"

    def cutting(said: spec.RunSpec, made: shards.Shards) -> plan.Plan:
        return plan.plan(made.keys, made.lengths, [plan.Stage(rows=4, length=8)], said.seed)

    monkeypatch.setattr(run, "plan_of", cutting)
    assert "stages[0]: an example is cut" in faults(said)[must]

    def reaching(said: spec.RunSpec, made: shards.Shards) -> plan.Plan:
        return plan.plan(made.keys, made.lengths + 1, said.stages, said.seed, whole=True)

    monkeypatch.setattr(run, "plan_of", reaching)
    assert "reaches past its document" in faults(said)[must]


def spoilt(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Any], object]) -> None:
    """Let every trainer be changed by somebody once it is made."""
    honest = run.trainer_of

    def made(job: Any) -> Any:
        trainer = honest(job)
        with torch.no_grad():
            spoil(trainer)
        return trainer

    monkeypatch.setattr(run, "trainer_of", made)


def leaks(trainer: Any) -> None:
    """Let documents see each other, as they do by default."""
    trainer.model.model._forward_pre_hooks.clear()
    trainer.model.config.use_cache = True


def never_reached(trainer: Any) -> None:
    """Let a weight be trained that no loss depends on."""
    trainer.model.register_parameter("idle", torch.nn.Parameter(torch.zeros(2)))


def no_number(trainer: Any) -> None:
    """Break the head, so that no loss is a number."""
    trainer.model.lm_head.weight.fill_(float("nan"))


def frozen(trainer: Any) -> None:
    """Freeze one adapter."""
    next(weight for name, weight in trainer.model.named_parameters() if "lora_A" in name).requires_grad = False


def passed_by(trainer: Any) -> None:
    """Read a weight past its adapter."""
    layer = trainer.model.get_base_model().get_submodule("model.layers.1.self_attn.v_proj")
    layer.forward = layer.get_base_layer().forward


def another_reference(trainer: Any) -> None:
    """Let the reference be another model than the policy is."""
    next(trainer.ref_model.parameters()).add_(0.1)


@pytest.mark.parametrize(
    "case",
    [
        ("sft", leaks, "documents that share a row", "sees the ones before it"),
        ("sft", never_reached, "a loss is a number", "no gradient reaches idle"),
        ("sft", no_number, "a loss is a number", "is nan"),
        ("sft", no_number, "the loss of packed rows", "nan packed"),
        ("lora", frozen, "adapters are on all", "the adapter is frozen"),
        ("lora", passed_by, "adapters are on all", "no gradient reaches the adapter"),
        ("dpo", passed_by, "adapters are on all", "no gradient reaches the adapter"),
        ("dpo", another_reference, "the reference is the policy", "embed_tokens.weight is another one"),
    ],
)
def test_a_model_that_is_wrong_is_found(
    case: tuple[str, Callable[[Any], None], str, str],
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What somebody did to a model after it was proven to be right is seen on the model itself."""
    method, spoil, must, where = case
    lora = {"lora": {"r": 2}} if spoil in {frozen, passed_by} else {}
    if method == "dpo":
        toys.toy(tmp_path)
        toys.write_shards(tmp_path / "shards", toys.PAIR, toys.pairs(8))
        said = toys.settings(tmp_path, method, "none", **lora)
    else:
        said = settings("none", method=method, **lora)
    assert not any(one.startswith(must) for one in faults(said))
    spoilt(monkeypatch, spoil)
    found = faults(said)
    assert where in next(told for one, told in found.items() if one.startswith(must))


def test_what_is_not_measured_is_missed(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are held out, and in no batch, are found."""
    built = written(tmp_path / "made", lambda *_: None)
    said = settings("none", data={"built": built}, evaluation={"rows": 1})
    assert results(said)["all that is held out is measured, and each row once"] == "pass"
    honest = causal.HeldOut.__iter__

    def fewer(held_out: causal.HeldOut) -> Iterator[Any]:
        return iter(list(honest(held_out))[1:])

    spoilt(monkeypatch, lambda _: monkeypatch.setattr(causal.HeldOut, "__iter__", fewer))
    [(failed, where)] = faults(said).items()
    assert failed.startswith("all that is held out is measured")
    assert "not its 5 rows" in where


def test_a_step_without_anything_to_learn_is_found(settings: Settings, tmp_path: Path) -> None:
    """A step of which no token is learned is named, and why no trainer can be made for it."""

    def silent(rows: list[Row], _: list[Row]) -> None:
        rows[19].counted[:] = False

    data = {"built": written(tmp_path / "made", silent)}
    found = looking.audit(settings("none", data=data, stages=[{"rows": 1, "length": 25, "epochs": 1}]))
    failed = {one.must: one.where for one in found.findings if one.result == "fail"}
    assert failed.keys() == {
        "its trainer can be made",
        "every row has something to learn",
        "every step has something to learn",
    }
    [step, *_] = failed["every step has something to learn"].split(": no token of it is learned")
    assert f"{step} would have no token to learn" in failed["its trainer can be made"]  # of one number
    assert [one.where for one in found.findings if one.boundary == "loss and optimizer" and one.result == "skip"]


def test_a_reward_for_nothing_is_found(tmp_path: Path) -> None:
    """Settings by which an answer without code is worth as much as one that passes are a fault."""
    writes_programs(tmp_path)
    assert faults(of_grpo(tmp_path, "right")) == {}
    said = of_grpo(tmp_path, "wrong")
    grpo = msgspec.structs.replace(said.grpo, rewards=spec.Rewards(broken=1.0))
    [(failed, where)] = faults(msgspec.structs.replace(said, grpo=grpo)).items()
    assert failed.startswith("an answer that ends before its tests do")
    assert "broken, worth 1.0" in where


def test_a_folder_that_is_in_the_way_is_found(settings: Settings, tmp_path: Path) -> None:
    """Where a run's folder cannot be made because a file stands there, that file is named."""
    (tmp_path / "none").write_text("mine")
    said = msgspec.structs.replace(settings("none"), out=str(tmp_path / "none" / "run"))
    found = faults(said)
    assert (
        found["the run's folder is one that can be written to, or can be made"] == f"{tmp_path / 'none'} is no folder"
    )
    assert found.keys() == {
        "its trainer can be made",
        "the run's folder is one that can be written to, or can be made",
    }


def test_every_check_has_been_seen_to_fail() -> None:
    """Each thing that must hold is named by a test of this file that breaks it."""
    told = Path(__file__).read_text()
    assert [check.must for check in checks.CHECKS if check.must[:18] not in told] == []
