"""Rows of a lake, or of an export, become shards: once, under the key of all that their tokens depend on."""

import multiprocessing

import msgspec
import numpy as np
import pytest

from exporters.export import export
from exporters.faults import FirewallBreach
from exporters.plan import Options
from exporters.relations import OffBalance
from lake import Lake
from lake.compact import compact
from lake.errors import Damaged, LakeError, UnknownRef, UsageError
from tests.exporters.conftest import fill, run
from tests.replay.conftest import section
from views.connect import dumps, sources
from views.policy import Policy, Replay

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from tests.trainers import chatml  # noqa: E402
from tests.trainers.chatml import CHATML, END  # noqa: E402
from tests.trainers.launching import python  # noqa: E402
from trainers import reading  # noqa: E402
from trainers.build import Limits, built, for_run, key  # noqa: E402
from trainers.rendering import KINDS, Renderer, refuse_unfit  # noqa: E402
from trainers.shards import Shards, key_of, opened  # noqa: E402
from trainers.sources import Rows, of_export, of_snapshot  # noqa: E402

TASKS = [
    {
        "task_id": f"task-{n}",
        "language": "python",
        "split": "train",
        "description": f"Add {n}.",
        "tests": f"def check(candidate):\n    assert candidate(1) == {n + 1}\n",
        "entry_point": "add",
        "source": {"file": "tasks.jsonl", "line": n + 1, "sha256": "0" * 64},
    }
    for n in range(3)
]


def add_documents(lake, first, count):
    """Append documents to train on as they are."""
    rows = [
        run(f"doc-{n}", f"doc-{n}", f"Document {n} says {'much ' * (n % 7)}.", kind="document", prompt=None)
        for n in range(first, first + count)
    ]
    lake.append("evidence", rows, producer="documents", sequence=first)


@pytest.fixture(scope="module")
def tokenizer():
    """A byte-level tokenizer with a chat template that marks what is learned."""
    return chatml.tokenizer()


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A lake of every fate, of documents and of tasks; its snapshot is called first."""
    lake = Lake.create(str(tmp_path_factory.mktemp("built") / "lake"))
    fill(lake)
    add_documents(lake, 0, 40)
    lake.append("tasks", TASKS, producer="tasks", sequence=0)
    lake.name(lake.snapshot(), "first")
    return lake


class Listed:
    """Rows that no lake is needed for."""

    def __init__(self, *rows, chat=True, **said):
        self.said = {"dataset": "sft", "snapshot": "0" * 32, "val": 0.0, **said}
        self.chat, self.date = chat, None
        self._rows = rows

    def read(self):
        yield Rows("train", [{"id": f"row-{n}", **row} for n, row in enumerate(self._rows)])


def turns(*contents):
    """A conversation that a user begins."""
    return [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]


CHATS = Listed(*({"messages": turns(f"Do {n}.", "So " * (5 + 6 * n))} for n in range(4)))
PAIRS = Listed(
    *({"prompt": f"Ask {'it ' * n}", "chosen": "Yes " * (n + 2), "rejected": "No " * (9 - 2 * n)} for n in range(4)),
    chat=False,
)


def made(source, tokenizer, into, kind="text", limits=None, **renderer):
    """The shards of rows that are listed."""
    renderer = Renderer(tokenizer, kind, chat=source.chat, **renderer)
    return built(source, renderer, limits or Limits(), into)["train"]


def asked(lake, tokenizer, dataset="sft", method="sft", ref="first", **options):
    """The rows of a dataset for a method, and what renders them."""
    kind = KINDS[method]
    source = of_snapshot(lake, ref, dataset, kind, Options(**options))
    return source, Renderer(tokenizer, kind, chat=source.chat, date=source.date)


def build(lake, tokenizer, into, *what, limits=None, **options):
    """The shards of a dataset for a method."""
    return built(*asked(lake, tokenizer, *what, **options), limits or Limits(), into)


def texts(shards, tokenizer, field="text"):
    return {
        row["id"]: tokenizer.decode(shards.fields[field].row(number)[0])
        for number, row in enumerate(shards.rows().to_pylist())
    }


@pytest.mark.parametrize(
    ("dataset", "method", "form"),
    [
        ("sft", "sft", "jsonl.zst"),
        ("pretrain", "pretrain", "parquet"),
        ("ipo", "dpo", "hf"),
        ("kto", "kto", "parquet"),
        ("grpo", "grpo", "jsonl"),
    ],
)
def test_every_row_of_a_dataset_becomes_tokens(lake, tokenizer, tmp_path, dataset, method, form):  # noqa: PLR0917
    """The rows are those of an export, in its order, and say what it says; the export itself gives the same shards."""
    shards = build(lake, tokenizer, tmp_path / "a", dataset, method)["train"]
    export(lake, dataset, tmp_path / "out", Options(at="first", format=form))
    source = of_export(tmp_path / "out", KINDS[method])
    found = built(source, Renderer(tokenizer, KINDS[method], chat=source.chat), Limits(), tmp_path / "b")
    assert {split: one.description for split, one in found.items()} == {"train": shards.description}
    rows = [row for part in source.read() for row in part.rows]
    beside = shards.rows().to_pylist()
    assert [row["id"] for row in beside] == [row["id"] for row in rows]
    assert shards.description.counts["offered"] == shards.description.counts["kept"] == len(rows) > 0
    for name, field in shards.fields.items():
        column = "messages" if name == "text" and "messages" in rows[0] else name
        for number, row in enumerate(rows):
            said = row[column] if isinstance(row[column], str) else row[column][-1]["content"]
            assert said in tokenizer.decode(field.row(number)[0])
    if method == "kto":
        assert [row["label"] for row in beside] == [row["label"] for row in rows]
    if method == "grpo":
        for given, row in zip(beside, rows, strict=True):
            columns = ("task_id", "tests", "entry_point", "starter_code", "language", "description")
            assert [given[name] for name in columns] == [row.get(name) for name in columns]


def test_they_are_built_once(tokenizer, tmp_path, monkeypatch):
    """A second time they are found under their key, and no row is read."""
    first = made(CHATS, tokenizer, tmp_path)
    [folder] = tmp_path.iterdir()
    assert folder.name == first.description.key == key_of(first.description.made_from)
    monkeypatch.setattr(Listed, "read", None)
    again = made(CHATS, tokenizer, tmp_path)
    assert again.description == first.description
    first.prove()


def test_the_key_knows_whatever_the_tokens_depend_on(lake, tokenizer):
    """Another snapshot, dataset, policy, split, shape, tokenizer or length is another key."""
    add_documents(lake, 900, 1)
    lake.name(lake.snapshot(), "second")
    other = chatml.tokenizer(vocabulary=330)
    keys = [
        key(*asked(lake, changed.pop("tokenizer", tokenizer), **changed), Limits())
        for changed in (
            {},
            {"ref": "second"},
            {"dataset": "pretrain", "method": "pretrain"},
            {"policy": Policy(include_partial=True)},
            {"val": 0.5},
            {"val": 0.5, "seed": 3},
            {"replay": 0.5},
            {"shape": "prompt-completion"},
            {"tokenizer": other},
        )
    ]
    keys += [key(*asked(lake, tokenizer), limits) for limits in (Limits(9), Limits(9, "drop"), Limits(8, "drop"))]
    assert len({key_of(one) for one in keys}) == len(keys) == 12
    # What becomes of what is too long is nothing where nothing is.
    assert key(*asked(lake, tokenizer), Limits(None, "drop")) == keys[0]


def test_later_commits_and_compaction_change_nothing(tmp_path, tokenizer):
    """A snapshot's shards have the same bytes after more was appended and the files were laid out otherwise."""
    lake = Lake.create(str(tmp_path / "lake"))
    for first in range(0, 40, 8):
        add_documents(lake, first, 8)
    pinned = lake.pin().id
    before = build(lake, tokenizer, tmp_path / "before", "pretrain", "pretrain", ref=pinned)["train"]
    add_documents(lake, 100, 10)
    assert list(compact(lake))
    again = build(lake, tokenizer, tmp_path / "after", "pretrain", "pretrain", ref=pinned)["train"]
    assert again.description == before.description
    newer = build(lake, tokenizer, tmp_path / "after", "pretrain", "pretrain", ref=lake.pin().id)["train"]
    old = texts(before, tokenizer)
    assert {name: text for name, text in texts(newer, tokenizer).items() if name in old} == old
    assert newer.description.rows == 50


def test_an_export_is_proved_before_it_is_read(lake, tokenizer, tmp_path):
    """A file that is not what the receipt says, or that it does not know, is named, and nothing is built."""
    export(lake, "sft", tmp_path / "out", Options(at="first"))
    source = of_export(tmp_path / "out", "text")
    renderer = Renderer(tokenizer, "text", chat=True)
    [data] = (tmp_path / "out/data").iterdir()
    whole = data.read_bytes()
    data.write_bytes(whole.replace(b"the first answer", b"the other answer"))
    with pytest.raises(Damaged, match=data.name):
        built(source, renderer, Limits(), tmp_path / "shards")
    data.write_bytes(whole)
    (tmp_path / "out/data/train-more.jsonl").write_bytes(whole)
    with pytest.raises(Damaged, match="train-more"):
        built(source, renderer, Limits(), tmp_path / "shards")
    assert not any((tmp_path / "shards").iterdir())


@pytest.mark.parametrize("ref", [None, "latest", "HEAD", "evidence=1", "2026-11-20"])
def test_a_state_that_is_no_snapshot_is_refused(lake, ref):
    """The newest state, versions and times are no names of what a run can be made of again."""
    with pytest.raises((UsageError, UnknownRef)):
        of_snapshot(lake, ref, "sft", "text")


def test_a_dataset_is_for_its_methods(lake, tmp_path):
    """Pairs are nothing to imitate, and texts that a template rendered already are not rendered again."""
    with pytest.raises(UsageError, match="preference"):
        of_snapshot(lake, "first", "preference", "text")
    with pytest.raises(UsageError, match="instruction"):
        of_snapshot(lake, "first", "sft", "text", Options(shape="instruction"))
    with pytest.raises(UsageError, match="no dataset"):
        of_snapshot(lake, "first", "nothing", "text")
    export(lake, "rag", tmp_path / "rag")
    with pytest.raises(UsageError, match="rag"):
        of_export(tmp_path / "rag", "text")


def test_what_is_too_long_is_refused_dropped_or_cut_and_counted(tokenizer, tmp_path):
    """Every row that is offered is kept, dropped or has nothing left to learn; every token is kept or lost."""
    whole = made(CHATS, tokenizer, tmp_path)
    lengths = whole.fields["text"].lengths.tolist()
    limit, tokens = lengths[1], sum(lengths)
    with pytest.raises(LakeError, match=rf"row-2: it has {lengths[2]} tokens, and {limit} are allowed") as caught:
        made(CHATS, tokenizer, tmp_path, limits=Limits(limit))
    assert "drop" in caught.value.hint
    dropped = made(CHATS, tokenizer, tmp_path, limits=Limits(limit, "drop")).description
    assert (dropped.rows, dropped.counts["dropped_overlong"]) == (2, 2)
    cut = made(CHATS, tokenizer, tmp_path, limits=Limits(limit, "truncate"))
    assert (cut.description.rows, cut.description.counts["truncated"]) == (4, 2)
    for number in range(4):
        kept, all_of_it = (one.fields["text"].row(number)[0].tolist() for one in (cut, whole))
        assert kept == all_of_it[:limit]
    # Where nothing is left of an answer, there is nothing to learn.
    answer = int(whole.fields["text"].row(0)[1].argmax())
    with pytest.raises(UsageError, match="no row is left") as caught:
        made(CHATS, tokenizer, tmp_path, limits=Limits(answer, "truncate"))
    assert "'untrained': 4" in caught.value.hint
    for said in (dropped, cut.description, whole.description):
        counts = said.counts
        assert counts["offered"] == counts["kept"] + counts["dropped_overlong"] + counts["untrained"] == 4
        assert counts["kept"] == said.rows
        assert said.tokens["text"] + counts["tokens_lost"] == tokens


def test_of_a_pair_the_answers_are_cut_and_a_prompt_never(tokenizer, tmp_path):
    """A pair that is too long keeps its prompt; without an answer it is dropped; a prompt alone is not cut either."""
    whole = made(PAIRS, tokenizer, tmp_path, "pair")
    prompts, chosen, rejected = (whole.fields[name].lengths for name in ("prompt", "chosen", "rejected"))
    limit = int(prompts.max()) + 3
    cut = made(PAIRS, tokenizer, tmp_path, "pair", Limits(limit, "truncate"))
    assert cut.fields["prompt"].lengths.tolist() == prompts.tolist()
    for name, lengths in (("chosen", chosen), ("rejected", rejected)):
        assert cut.fields[name].lengths.tolist() == np.minimum(lengths, limit - prompts).tolist()
    assert cut.description.counts["truncated"] == sum(np.maximum(chosen, rejected) > limit - prompts) > 0
    some = made(PAIRS, tokenizer, tmp_path, "pair", Limits(int(prompts[2]), "truncate")).description
    assert (some.rows, some.counts["untrained"]) == (2, 2)
    kept = made(PAIRS, tokenizer, tmp_path, "prompt", Limits(int(prompts[2]), "truncate")).description
    assert (kept.counts["dropped_overlong"], kept.counts["truncated"]) == (1, 0)


def test_a_row_with_nothing_to_learn_is_refused_or_counted(tokenizer, tmp_path):
    """Where a template marks nothing of a row, the row is named; where rows may be dropped, it is counted."""
    mute = "{%- if 'Do 2' in messages[0].content -%}{{ messages[0].content }}{%- else -%}" + CHATML + "{%- endif -%}"
    with pytest.raises(LakeError, match="row-2: there is nothing in it to learn"):
        made(CHATS, tokenizer, tmp_path, template=mute)
    said = made(CHATS, tokenizer, tmp_path, limits=Limits(4096, "drop"), template=mute).description
    assert (said.rows, said.counts["untrained"]) == (3, 1)


def test_the_firewall_holds_and_the_books_are_closed(lake, tokenizer, tmp_path):
    """Rules that let a run vanish, or a rejected one through, give no shards."""
    installed = dict(sources())
    whole, part = installed["sft"], "record.category in ('accepted', 'partially_accepted')"
    assert part in whole
    for changed, error in (
        (whole[: whole.rindex("where")] + "where record.record_type = 'event'", FirewallBreach),
        (whole.replace(part, f"{part} and record.run_id <> 'good-3'"), OffBalance),
    ):
        digest = lake.put_object(dumps(installed | {"sft": changed}))
        with pytest.raises(error):
            build(lake, tokenizer, tmp_path, views=digest)
        assert list(tmp_path.iterdir()) == []


def _race(tokenizer, folder, gate):
    rows = list(CHATS.read())
    waiting = Listed()
    waiting.read = lambda: (gate.wait(), rows)[1]  # both are building now
    made(waiting, tokenizer, folder)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_two_builders_at_once_end_with_one_folder(tokenizer, tmp_path):
    """Both succeed; there is one folder, whole, and nothing beside it."""
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(2)
    racers = [context.Process(target=_race, args=(tokenizer, tmp_path, gate)) for _ in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0, 0]
    [folder] = tmp_path.iterdir()
    assert opened(folder)["train"].description.rows == 4
    opened(folder)["train"].prove()


def test_shards_are_read_without_the_lakes_engines(lake, tokenizer, tmp_path):
    """Where neither duckdb nor deltalake nor torch is, they are opened, proved, laid out and read."""
    shards = build(lake, tokenizer, tmp_path, val=0.4)["train"]
    program = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"duckdb", "deltalake", "obstore", "typer", "torch", "transformers"}}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
from trainers.batches import packed
from trainers.plan import Stage, plan
from trainers.shards import opened
splits = opened({str(shards.folder.parent)!r})
train = splits["train"]
train.prove()
field = train.fields["text"]
laid = plan(train.keys, field.lengths, [Stage(rows=2, length=256)], 0, whole=True)
rows = packed(laid.stages[0], laid.rows(0), field, 0)
print(sorted(splits), int((rows["labels"] >= 0).sum()), train.rows(["id"]).num_rows)
"""
    done = python("-c", program)
    assert done.out.startswith("['train', 'validation']")
    assert int(done.out.split()[-2]) > 0
    assert int(done.out.split()[-1]) == shards.description.rows


def test_replayed_rows_say_so(tokenizer, tmp_path):
    """Rows of past training are among the others, and say of which section they are."""
    lake = Lake.create(str(tmp_path / "lake"))
    fill(lake)
    past = section("### Q\nRecall.\n### A\nIt was so.", "instruction")
    lake.append("replay", [past], producer="past", sequence=0)
    policy = Policy(replay=Replay(retention=0.0))
    shards = build(lake, tokenizer, tmp_path / "shards", ref=lake.pin().id, replay=0.2, policy=policy)["train"]
    marked = {row["id"]: row["section_id"] for row in shards.rows().to_pylist() if row["section_id"] is not None}
    assert list(marked.values()) == [past["section_id"]]
    assert "It was so." in texts(shards, tokenizer)[next(iter(marked))]


def test_a_run_finds_its_shards_by_its_settings(lake, tokenizer, tmp_path):
    """The snapshot's name, the policy's file and the paths of a run's TOML, which are relative to it."""
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "policy.json").write_text('{"include_partial": true}')
    (tmp_path / "template.jinja").write_text(CHATML + "\n")
    (tmp_path / "run.toml").write_text(
        f"""
method = "sft"
out = "run"
[data]
lake = {lake.uri!r}
snapshot = "first"
policy = "policy.json"
template = "template.jinja"
overlong = "drop"
val = 0.4
[model]
path = "model"
[[stages]]
rows = 2
length = 64
[optimizer]
learning_rate = 1e-3
"""
    )
    said = reading.read(tmp_path / "run.toml")
    found = for_run(said, tokenizer)
    assert found["train"].folder.is_relative_to(tmp_path / "shards")
    told = found["train"].description.made_from
    assert told["policy"]["include_partial"] is True
    assert (told["length"], told["overlong"], told["val"]) == (64, "drop", 0.4)
    assert sum(one.description.counts["offered"] for one in found.values()) == 5
    assert told["snapshot"] == lake.names()["first"]
    older = lake.put_object(dumps(dict(sources()) | {"sft": sources()["sft"] + "\n"}))
    assert for_run(said, tokenizer, views=older)["train"].description.made_from["views"] == older != told["views"]
    exported = msgspec.structs.replace(said.data, export=str(tmp_path / "nowhere"), snapshot=None)
    with pytest.raises(LakeError, match="nowhere"):
        for_run(msgspec.structs.replace(said, data=exported), tokenizer)
    assert isinstance(found["validation"], Shards)


def test_shards_of_another_tokenizer_or_method_are_refused(tokenizer, tmp_path):
    """Shards that were built elsewhere fit the model's tokenizer, also when that was saved again, and the method."""
    shards = made(CHATS, tokenizer, tmp_path / "shards")
    tokenizer.save_pretrained(tmp_path / "model")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    for method in ("sft", "lora", "pretrain"):
        refuse_unfit(shards, method, again)
    with pytest.raises(UsageError, match="dpo does not learn from"):
        refuse_unfit(shards, "dpo", again)
    again.add_tokens(["<more>"])
    with pytest.raises(UsageError, match="another tokenizer"):
        refuse_unfit(shards, "sft", again)


def test_a_split_that_holds_nothing_out_is_refused(tokenizer, tmp_path):
    """A share so small that no row is in it is said, not passed over; so is a dataset without a row."""
    with pytest.raises(UsageError, match="split validation"):
        made(Listed({"messages": turns("a", "b")}, val=0.01), tokenizer, tmp_path)
    with pytest.raises(UsageError, match="sft has no row"):
        made(Listed(), tokenizer, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_text_that_spells_a_special_token_is_counted(tokenizer, tmp_path):
    """It is text, and how many rows have one is said."""
    chats = Listed(*({"messages": turns("What?", f"That {END * (n == 1)}")} for n in range(3)))
    shards = made(chats, tokenizer, tmp_path)
    assert shards.description.counts["literal_specials"] == 1
    end = tokenizer.eos_token_id
    assert {int((shards.fields["text"].row(n)[0] == end).sum()) for n in range(3)} == {2}
