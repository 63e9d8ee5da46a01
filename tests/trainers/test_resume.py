"""What a run goes on from: there is always a whole checkpoint, and what it began with must be what is there now."""

import shutil
from pathlib import Path

import msgspec
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from lake.errors import Damaged, UsageError  # noqa: E402
from trainers import again, record, recorder, run, spec  # noqa: E402
from trainers.recorder import Record  # noqa: E402


def whole(out) -> list[int]:
    """The steps of the whole checkpoints in a folder."""
    return [step for step, folder in record.checkpoints(out).items() if record.trained(folder) is not None]


@pytest.fixture
def keeps_one(settings):
    """Settings of seven steps, of which only the newest checkpoint stays."""
    return settings("run", stages=[{"rows": 4, "length": 64, "steps": 7}], checkpoints={"every": 2, "keep": 1})


def test_a_checkpoint_stays_until_a_newer_one_is_whole(keeps_one, monkeypatch):
    """A run that is killed once transformers has saved a checkpoint, and before it is whole, has the one before."""
    marked = Record.checkpoint

    def killed(self, step, folder):
        if step == 4:
            raise KeyboardInterrupt
        marked(self, step, folder)

    monkeypatch.setattr(Record, "checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        run.train(run.prepare(keeps_one))
    assert (list(record.checkpoints(keeps_one.out)), whole(keeps_one.out)) == ([2, 4], [2])
    monkeypatch.setattr(Record, "checkpoint", marked)
    done = run.train(run.prepare(keeps_one, resume=True), resume=True)
    assert (done.state, done.sessions[1].first_step) == ("finished", 2)
    assert whole(keeps_one.out) == list(record.checkpoints(keeps_one.out)) == [7]
    # The record keeps what the others were.
    assert [one.step for one in done.checkpoints] == [2, 4, 6, 7, 7]
    assert all("model.safetensors" in one.files for one in done.checkpoints)


def test_half_of_a_checkpoint_is_none(keeps_one, monkeypatch):
    """A run that is killed while it takes a checkpoint away has the newer one; what is left of it goes next time."""
    taken = shutil.rmtree

    def torn(folder, **_):
        (Path(folder) / "model.safetensors").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(recorder.shutil, "rmtree", torn)
    with pytest.raises(KeyboardInterrupt):
        run.train(run.prepare(keeps_one))
    assert (list(record.checkpoints(keeps_one.out)), whole(keeps_one.out)) == ([2, 4], [4])
    monkeypatch.setattr(recorder.shutil, "rmtree", taken)
    # How many are kept is free to be another number now.
    keeps_two = msgspec.structs.replace(keeps_one, checkpoints=spec.Checkpoints(every=2, keep=2))
    assert run.train(run.prepare(keeps_two, resume=True), resume=True).state == "finished"
    assert whole(keeps_one.out) == list(record.checkpoints(keeps_one.out)) == [6, 7]


def test_an_error_before_the_first_step_is_in_the_record(keeps_one):
    """Whatever comes between the record and the steps, a run that it ends says so, and no run loses steps by it."""

    def none_such():
        raise UsageError("there is no such tracker")
        yield

    def failed(steps: int, **how: bool) -> None:
        with pytest.raises(UsageError, match="no such tracker"):
            run.train(run.prepare(keeps_one, **how), **how, callbacks=none_such())
        said = record.read(keeps_one.out)
        assert (said.state, said.steps, said.sessions[-1].last_step) == ("failed", steps, steps)

    failed(0)
    shutil.rmtree(keeps_one.out)
    run.train(run.prepare(keeps_one))
    failed(7, resume=True)


@pytest.fixture
def based(settings, ground, tmp_path):
    """Settings of a run of adapters upon weights in a folder of their own."""
    config = transformers.AutoConfig.from_pretrained(ground / "still")
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "README.md").write_text("A model.")
    stages = [{"rows": 4, "length": 64, "steps": 4}]
    said = settings("run", method="lora", lora={"r": 2}, stages=stages, checkpoints={"every": 2})
    model = msgspec.structs.replace(said.model, path=str(tmp_path / "base"), config=None)
    return msgspec.structs.replace(said, model=model)


def other_weights(folder) -> None:
    """Put weights of the same shape in place of those in a folder."""
    config = transformers.AutoConfig.from_pretrained(folder)
    transformers.set_seed(99)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def test_adapters_go_on_upon_the_weights_that_they_began_with(based):
    """Where the files below a checkpoint have changed, the run does not go on; what is never loaded may change."""
    run.train(run.prepare(based))
    for folder, step in record.checkpoints(based.out).items():
        if folder > 2:
            shutil.rmtree(step)
    base = Path(based.model.path)
    (base / "README.md").write_text("A better model.")
    assert run.train(run.prepare(based, resume=True), resume=True).state == "finished"
    shutil.rmtree(record.checkpoints(based.out)[4])
    before = Path(based.out, record.NAME).read_bytes()
    other_weights(base)
    with pytest.raises(UsageError, match=r"base: not as it was when the run began: model\.safetensors$") as caught:
        run.train(run.prepare(based, resume=True), resume=True)
    assert str(record.NAME) in str(caught.value.hint)
    assert Path(based.out, record.NAME).read_bytes() == before


def test_a_run_that_was_moved_goes_on(based, ground, tmp_path):
    """With all that it began from in other folders, it is the same run; with another tokenizer, or none, it is not."""
    here, there = tmp_path / "here", tmp_path / "there"

    def lying(folder: Path, tokenizer: str | None = "words"):
        model = {"path": str(folder / "base"), "tokenizer": tokenizer and str(folder / tokenizer)}
        named = {"built": "built", "template": "chat.jinja", "policy": "policy.json"}
        data = {key: str(folder / name) for key, name in named.items()}
        return msgspec.structs.replace(
            based,
            out=str(folder / "run"),
            data=msgspec.structs.replace(based.data, **data),
            model=msgspec.structs.replace(based.model, **model),
        )

    shutil.copytree(based.model.path, here / "base")
    for name in ("words", "built"):
        shutil.copytree(ground / name, here / name)
    shutil.copytree(ground / "words", here / "base", dirs_exist_ok=True)
    (here / "chat.jinja").write_text("{{ messages }}")
    run.train(run.prepare(lying(here)))
    shutil.rmtree(record.checkpoints(here / "run")[4])
    here.rename(there)
    with pytest.raises(UsageError, match=r"it began with another model\.tokenizer$"):
        run.train(run.prepare(lying(there, None), resume=True), resume=True)
    assert run.train(run.prepare(lying(there), resume=True), resume=True).state == "finished"
    (there / "words" / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')
    with pytest.raises(UsageError, match=r"words: not as it was when the run began: tokenizer_config\.json"):
        run.train(run.prepare(lying(there), resume=True), resume=True)


def test_a_run_below_the_model_that_it_begins_with_goes_on(based, ground):
    """What lies in folders below a model's is none of it, the run's own and its shards least; further templates are."""
    base = Path(based.model.path)
    shutil.copytree(ground / "words", base, dirs_exist_ok=True)
    shutil.copytree(ground / "built", base / "built")
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "tool_use.jinja").write_text("{{ messages }}")
    below = msgspec.structs.replace(
        based,
        out=str(base / "run"),
        data=msgspec.structs.replace(based.data, built=str(base / "built")),
        model=msgspec.structs.replace(based.model, tokenizer=None),
    )
    begun = run.train(run.prepare(below)).model
    assert begun is not None
    assert sorted(begun.files) == [
        "additional_chat_templates/tool_use.jinja",
        *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    ]
    shutil.rmtree(record.checkpoints(below.out)[4])
    assert run.train(run.prepare(below, resume=True), resume=True).state == "finished"
    (base / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools }}")
    with pytest.raises(UsageError, match=r"not as it was when .*: additional_chat_templates/tool_use\.jinja"):
        run.train(run.prepare(below, resume=True), resume=True)


def test_a_config_that_weights_are_drawn_for_is_remembered(settings, ground, tmp_path):
    """A run with random weights does not go on with another config."""
    config = shutil.copytree(ground / "config", tmp_path / "config") / "config.json"
    said = settings(
        "run",
        model={"config": str(config), "tokenizer": str(ground / "words")},
        stages=[{"rows": 4, "length": 64, "steps": 2}],
    )
    run.train(run.prepare(said))
    config.write_text(config.read_text().replace('"attention_dropout": 0.1', '"attention_dropout": 0.3'))
    with pytest.raises(UsageError, match=r"config\.json: not as it was"):
        run.train(run.prepare(said, resume=True), resume=True)


def test_a_repetition_says_what_it_began_with_is_not_the_same(based, ground, tmp_path):
    """Other weights to begin with, and other shards with the same rows in them, are each said by their names."""
    run.train(run.prepare(based))
    found = again.repeat(Path(based.out))
    assert found.ok
    assert list(found.same) == ["rows", "order of rows", "files that it begins from", "loss at each step", "weights"]
    other_weights(based.model.path)
    assert again.repeat(Path(based.out), tmp_path / "other").same == {
        **found.same,
        "files that it begins from": False,
        "loss at each step": False,
        "weights": False,
    }
    said = Path(based.out, record.NAME)
    key = record.read(based.out).shards["train"].key
    said.write_text(said.read_text().replace(key, "0" * len(key)))
    assert not again.repeat(Path(based.out), tmp_path / "rows").same["rows"]


def test_a_checkpoint_of_another_run_is_not_gone_on_from(keeps_one, settings):
    """One that was copied among a run's own is named, with both runs; nothing is trained until it is away."""
    other = settings("other", stages=[{"rows": 4, "length": 64, "steps": 8}], seed=2)
    theirs, ours = (run.train(run.prepare(said)).run for said in (other, keeps_one))
    copied = Path(shutil.copytree(Path(other.out, "checkpoint-8"), Path(keeps_one.out, "checkpoint-8")))
    with pytest.raises(UsageError, match=f"checkpoint-8: this is a checkpoint of {theirs}, in the folder of {ours}$"):
        run.prepare(keeps_one, resume=True)
    shutil.rmtree(copied)
    assert run.train(run.prepare(keeps_one, resume=True), resume=True).sessions[1].first_step == 7


def test_what_a_killed_run_had_not_taken_away_goes_when_it_goes_on(keeps_one, monkeypatch):
    """Where the last checkpoint is whole and older ones are still there, no later one comes to take them away."""

    def killed(self, _):
        if self.run.steps == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Record, "keep", killed)
        with pytest.raises(KeyboardInterrupt):
            run.train(run.prepare(keeps_one))
    assert whole(keeps_one.out) == [2, 4, 6, 7]
    done = run.train(run.prepare(keeps_one, resume=True), resume=True)
    assert (done.state, whole(keeps_one.out)) == ("finished", [7])
    assert [one.step for one in done.checkpoints if one.files] == [2, 4, 6, 7, 7]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json", "rng_state.pth"])
def test_a_damaged_checkpoint_is_told_before_it_is_loaded(name, keeps_one):
    """What is not as it was saved, by size, by a bit or by being gone, is named; nothing goes on from it."""
    run.train(run.prepare(keeps_one))
    file = Path(keeps_one.out, "checkpoint-7", name)
    whole = file.read_bytes()
    for bad in (whole[:100], whole[:-1] + bytes([whole[-1] ^ 1]), None):
        file.unlink() if bad is None else file.write_bytes(bad)
        with pytest.raises(Damaged, match=f"checkpoint-7/{name}: ") as caught:
            run.train(run.prepare(keeps_one, resume=True), resume=True)
        assert "remove checkpoint-7" in str(caught.value.hint)


def test_weights_that_are_the_same_by_two_names_are_not_missed(settings, ground, tmp_path, caplog):
    """A model whose embeddings are its last layer goes on without a warning, and with the weights of a straight run."""
    config = transformers.AutoConfig.from_pretrained(ground / "still")
    config.tie_word_embeddings = True
    config.save_pretrained(tmp_path / "tied")
    stages = [{"rows": 4, "length": 64, "steps": 4}]
    model = {"config": str(tmp_path / "tied" / "config.json"), "tokenizer": str(ground / "words")}
    said = settings("run", stages=stages, model=model, checkpoints={"every": 2})
    straight = run.train(run.prepare(said)).checkpoints
    shutil.rmtree(record.checkpoints(said.out)[4])
    weights = [one.files["model.safetensors"] for one in straight if one.folder == run.RESULT]
    with caplog.at_level("WARNING"):
        again = run.train(run.prepare(said, resume=True), resume=True).checkpoints
    assert "missing" not in caplog.text
    assert [one.files["model.safetensors"] for one in again if one.folder == run.RESULT] == weights


def test_files_of_a_model_that_cannot_be_read_are_named(based, settings, tmp_path):
    """Weights that are cut off, and a config that is not there, are refused with their key."""
    weights = Path(based.model.path, "model.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"model\.path: "):
        run.train(run.prepare(based))
    gone = msgspec.structs.replace(based.model, path=None, config=str(tmp_path / "gone.json"))
    with pytest.raises(UsageError, match=r"model\.config: there is no "):
        run.prepare(msgspec.structs.replace(based, model=gone))


def test_a_repetition_does_not_write_over_another(keeps_one):
    """Where the folder of a repetition is taken, another one is asked for."""
    run.train(run.prepare(keeps_one))
    Path(keeps_one.out + "-again").mkdir()
    with pytest.raises(UsageError, match="something here already") as caught:
        again.repeat(Path(keeps_one.out))
    assert "--out" in str(caught.value.hint)
