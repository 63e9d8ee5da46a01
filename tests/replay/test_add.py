"""What comes in: documents, sections as rows, exports, an older corpus; each once, and what is bad as a reject."""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cbor2
import pytest
import zstandard

from exporters.export import export
from exporters.plan import Options as ExportOptions
from ingest.replay import add as adding
from ingest.replay.add import Options, add_documents, add_export, import_corpus
from ingest.replay.corpus import BadIndex, Snapshot, encode
from ingest.replay.provenance import FIELDS
from ingest.replay.sections import section_id
from ingest.run import ingest
from lake import Lake
from lake.errors import LakeError, UsageError
from tests.views import world
from views import Policy, connect
from views.connect import needed
from views.policy import Replay

T1 = datetime(2026, 1, 1, tzinfo=UTC)
T2 = datetime(2026, 2, 1, tzinfo=UTC)
DOCUMENT = "# Lakes\n\nstill water\n\n### Q\nwhich?\n### A\nBaikal\n"
MINED = {
    "judge_name": "sway",
    "judge_score_chosen": 0.8,
    "judge_score_rejected": 0.3,
    "mined_at": "2026-04-23T18:42:11Z",
    "mined_run_id": 7,
}
TRIPLE = "### Prompt\np\n### Chosen\nc\n### Rejected\nr"


def asked(lake, query):
    with connect(lake.snapshot(), sql=needed(query)) as con:
        return con.execute(query).fetchall()


def rejects(lake):
    return [(row["reason"], row["source"]["line"], row["errors"]) for row in lake.read("rejects").to_pylist()]


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "notes.md"
    path.write_text(DOCUMENT)
    return path


def test_the_same_document_twice_adds_nothing(lake, document):
    """A document is told once; edited, what is new in it is told, and what it no longer says stays."""
    [first] = add_documents(lake, [str(document)])
    [again] = add_documents(lake, [str(document)])
    assert (first.sightings, first.added, first.held) == (2, 2, 0)
    assert (again.sightings, again.added, again.held) == (2, 0, 2)
    document.write_text(DOCUMENT.replace("still", "deep"))
    [edited] = add_documents(lake, [str(document)])
    assert (edited.added, edited.held) == (1, 1)
    assert asked(lake, "select count(*) from replay_seen") == [(3,)]


def test_a_run_that_trains_again_moves_last_seen(lake, document):
    """Each run is a sighting; when it was seen last and by which runs is kept up, not fixed at the first time."""
    add_documents(lake, [str(document)], Options(run="r1", seen_at=T1))
    add_documents(lake, [str(document)], Options(run="r2", seen_at=T2))
    query = "select distinct first_seen, last_seen, training_runs from replay_sections"
    assert asked(lake, query) == [(T1, T2, ["r1", "r2"])]
    assert add_documents(lake, [str(document)], Options(run="r2"))[0].added == 0
    assert add_documents(lake, [str(document)], Options(run="r2", seen_at=T2 + timedelta(days=1)))[0].added == 2


def test_a_section_of_two_documents_is_one(lake, tmp_path):
    """What two documents share is one section with two sightings."""
    for name in ("a.md", "b.markdown"):
        (tmp_path / name).write_text("shared text")
    (tmp_path / ".hidden.md").write_text("hidden")
    done = add_documents(lake, [str(tmp_path)], Options(weight=2.0))
    assert [one.added for one in done] == [1, 1]
    assert asked(lake, "select sightings, weight, bytes from replay_sections") == [(2, 2.0, 11)]


def test_what_is_broken_is_rejected_with_its_line(lake, tmp_path):
    """A bad section becomes a reject that names the file and its line; the others come in."""
    path = tmp_path / "bad.md"
    path.write_text("# One\ntext\n\n### Q\na\n### A\nb\n### Q\nc\n\n" + TRIPLE.replace("### Rejected\n", ""))
    for _ in range(2):
        [done] = add_documents(lake, [str(path)])
    assert done.sightings == 1
    assert done.rejected == {"question_without_answer": 1, "missing_header": 1}
    found = sorted(rejects(lake), key=lambda one: one[1])
    assert [(reason, line) for reason, line, _ in found] == [("question_without_answer", 8), ("missing_header", 13)]
    assert found[0][2] == [f"{path}: line 8: '### Q' without a '### A' after it"]


def test_a_mined_pair_says_all_of_where_it_comes_from(lake, tmp_path):
    """The five facts of a mined pair come all or none, by a document's marker and by a row's columns."""
    facts = " ".join(f'{name}="{value}"' for name, value in MINED.items())
    (tmp_path / "whole.md").write_text(f"<!-- auto-mined: {facts} -->\n{TRIPLE}\n")
    (tmp_path / "part.md").write_text(f'<!-- auto-mined: judge_name="sway" -->\n{TRIPLE}\n')
    (tmp_path / "none.md").write_text(f"<!-- auto-mined: -->\n{TRIPLE}\n")
    whole, none, part = (add_documents(lake, [str(tmp_path / f"{name}.md")])[0] for name in ("whole", "none", "part"))
    assert (whole.added, whole.rejected) == (1, {})
    assert none.rejected == part.rejected == {"bad_provenance": 1}
    [(mined,)] = asked(lake, "select mined from replay_sections")
    assert mined == MINED | {"mined_at": datetime.fromisoformat(MINED["mined_at"])}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        *(({name: None}, "bad_provenance") for name in FIELDS),
        ({"judge_score_chosen": "much"}, "bad_provenance"),
        ({"judge_score_rejected": True}, "bad_provenance"),
        ({"mined_run_id": 0}, "bad_provenance"),
        ({"mined_run_id": "x"}, "bad_provenance"),
        ({"mined_at": "soon"}, "bad_provenance"),
        ({"mined_at": "0001-01-01T00:00:00+14:00"}, "bad_provenance"),
        ({"judge_name": " "}, "bad_provenance"),
        ({"auto_mined": False}, "bad_provenance"),
        ({"auto_mined": "yes"}, "bad_provenance"),
        ({"section_type": "prose"}, "bad_provenance"),
        ({"weight": -1}, "bad_weight"),
        ({"content": "### Prompt\np"}, "missing_header"),
        ({"content": 7}, "missing_field"),
        ({"section_type": "verse"}, "bad_type"),
        ({"section_id": "0" * 16}, "wrong_id"),
        ({}, None),
    ],
)
def test_a_row_is_checked_as_a_document_is(lake, tmp_path, change, reason):
    """Sections as JSON rows pass the same door: grammar, provenance, weight and id."""
    row = {"section_type": "preference", "content": TRIPLE, "auto_mined": True, "topic": "lakes", **MINED, **change}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    summary = ingest(lake, "replay", [str(path)])
    assert list(summary.rejected) == [reason] * (reason is not None)
    if reason is None:
        [event] = lake.read("replay").to_pylist()
        assert event["section_id"] == section_id("preference", TRIPLE)
        assert (event["content_bytes"], event["mined_run_id"]) == (len(TRIPLE), 7)
        assert json.loads(event["extra"]) == {"topic": "lakes"}


def test_a_mined_pair_without_the_word_is_mined(lake, tmp_path):
    """Who has the five facts is auto-mined; who has none is not."""
    path = tmp_path / "rows.jsonl"
    rows = [{"section_type": "preference", "content": TRIPLE, **MINED}, {"section_type": "prose", "content": "x"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ingest(lake, "replay", [str(path)])
    query = "select section_type, auto_mined from replay_seen order by 1"
    assert asked(lake, query) == [("preference", True), ("prose", False)]


def test_what_cannot_be_read_at_all_is_said(lake, tmp_path, monkeypatch):
    """Bytes that are no text and documents without end are rejects; missing files and empty folders are wrong uses."""
    (tmp_path / "bytes.md").write_bytes(b"text\n\xff\n")
    monkeypatch.setattr(adding, "DOCUMENT_BYTES", 100)
    (tmp_path / "long.md").write_text("word " * 100)
    done = add_documents(lake, [str(tmp_path / "bytes.md"), str(tmp_path / "long.md")])
    assert [one.rejected for one in done] == [{"invalid_utf8": 1}, {"too_long": 1}]
    (tmp_path / "empty").mkdir()
    for given in ("none.md", "empty", "*.rst"):
        with pytest.raises(UsageError):
            add_documents(lake, [str(tmp_path / given)])
    with pytest.raises(UsageError):
        add_documents(lake, ["-"])
    for bad in ({"weight": -1.0}, {"run": " "}):
        with pytest.raises(UsageError):
            Options(**bad)


def test_a_dry_run_stores_nothing(lake, document):
    """It counts what would be new."""
    before = lake.versions()
    [done] = add_documents(lake, [str(document)], Options(dry_run=True))
    assert done.added == 2
    assert lake.versions() == before


def test_two_that_add_one_document_tell_it_once(lake, document):
    """Of two processes that add the same, one tells it, and the other finds it told."""
    others = [Lake.open(lake.uri) for _ in range(3)]
    done = []
    threads = [
        threading.Thread(target=lambda one=one: done.extend(add_documents(one, [str(document)]))) for one in others
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one.added for one in done) == 2
    assert asked(lake, "select sightings from replay_seen") == [(1,), (1,)]


@pytest.fixture
def trained(lake, tmp_path):
    """A lake with runs, and the sft set that was exported of them."""
    lake.append(
        "evidence",
        [world.run(f"r{i}", f"t{i}", f"answer {i}", prompt=f"question {i}") for i in range(8)],
        producer="t",
        sequence=1,
    )
    lake.append("scores", [world.score(f"r{i}") for i in range(8)], producer="t", sequence=1)
    return lake


@pytest.mark.parametrize("form", ["jsonl", "jsonl.zst", "parquet", "arrow", "hf"])
def test_what_was_trained_on_becomes_replay(trained, tmp_path, form):
    """The training rows of an export in any format are sections, told once; what was held out is not among them."""
    made = export(trained, "sft", tmp_path / "out", ExportOptions(format=form, val=0.3))
    [first] = add_export(trained, str(tmp_path / "out"), Options(run="run-1"))
    assert first.document == f"sft@{made.snapshot}"
    assert (first.added, first.rejected) == (made.counts.splits["train"], {})
    assert 0 < first.added < 8
    assert add_export(trained, str(tmp_path / "out"), Options(run="run-1"))[0].added == 0
    for prompt, response in asked(trained, "select prompt, response from replay_rows"):
        assert prompt.replace("question", "answer") == response


def test_a_replayed_row_is_a_sighting_of_its_section(trained, tmp_path, document):
    """What was replayed and trained on again is seen again: the same section, a later time, another run."""
    add_documents(trained, [str(document)], Options(seen_at=T1))
    policy = Policy(replay=Replay(retention=0.0))
    made = export(trained, "sft", tmp_path / "out", ExportOptions(replay=0.2, policy=policy))
    assert made.counts.replay.exported == 1
    [done] = add_export(trained, str(tmp_path / "out"), Options(run="run-1", seen_at=T2))
    assert (done.added, done.rejected) == (9, {})
    query = "select first_seen, last_seen, training_runs from replay_sections where sightings = 2"
    assert asked(trained, query) == [(T1, T2, ["run-1"])]
    [elsewhere] = add_export(Lake.create(str(tmp_path / "other")), str(tmp_path / "out"))
    assert elsewhere.rejected == {"unknown_section": 1}


ROWS = [
    ({"prompt": "p", "completion": "c", "label": True}, "instruction"),
    ({"prompt": "p", "completion": "c", "label": False}, None),
    (
        {"prompt": [{"role": "user", "content": "p"}], "completion": [{"role": "assistant", "content": "c"}]},
        "instruction",
    ),
    ({"instruction": "p", "input": "more", "output": "c"}, "instruction"),
    ({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]}, "instruction"),
    ({"messages": '[{"role":"user","content":"u"},{"role":"assistant","content":"b"}]', "tools": "[1]"}, "instruction"),
    ({"prompt": "p", "chosen": "c", "rejected": "r"}, "preference"),
    ({"text": "a text"}, "prose"),
    ({"content": "another"}, "prose"),
    ({"input_ids": [1]}, "no_section"),
    ({"messages": ["u"]}, "no_section"),
    ({"messages": "u"}, "no_section"),
    ({"prompt": [{"role": "user"}, {"role": "user"}], "completion": "c"}, "no_section"),
    ({"messages": [{"role": "user", "content": "u"}]}, "bad_json"),
]


@pytest.mark.parametrize(("row", "made"), ROWS)
def test_rows_of_others_are_known_by_their_columns(lake, tmp_path, row, made):
    """Any folder of training rows will do; what is no section is a reject, what was not wanted is passed over."""
    (tmp_path / "set" / "data").mkdir(parents=True)
    (tmp_path / "set" / "data" / "train-0.jsonl").write_text(json.dumps(row) + "\n")
    [done] = add_export(lake, str(tmp_path / "set"))
    assert done.document == (tmp_path / "set").as_posix()
    if made is None:
        assert (done.sightings, done.skipped) == (0, 1)
    elif done.rejected:
        assert done.rejected == {made: 1}
    else:
        assert asked(lake, "select section_type from replay_seen") == [(made,)]
        assert asked(lake, "select count(*) from replay_rows") == [(1,)]


def test_a_folder_that_is_no_export_is_refused(lake, tmp_path):
    """No folder, no rows, no receipt that can be read: each is said; a bad row or file is a reject."""
    with pytest.raises(UsageError):
        add_export(lake, str(tmp_path / "none"))
    with pytest.raises(UsageError):
        add_export(lake, str(tmp_path))
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "data-0.arrow").write_bytes(b"ARROW1 and more")
    (tmp_path / "train-0.parquet").write_bytes(b"no parquet")
    (tmp_path / "train-1.jsonl").write_bytes(b'{"text": "a"}\n{"text": \n\n' + b'{"text":"\xff"}\n')
    [done] = add_export(lake, str(tmp_path))
    assert done.rejected == {"unknown_format": 2, "not_json": 1, "invalid_utf8": 1}
    assert done.added == 1
    (tmp_path / "receipt.json").write_text("{}")
    with pytest.raises(LakeError):
        add_export(lake, str(tmp_path))


SNAPSHOTS = [
    Snapshot(section_id("prose", "hello"), "prose", "hello", T1, T1),
    Snapshot(section_id("preference", TRIPLE), "preference", TRIPLE, T1, T2, True, [3, 1]),
    Snapshot(section_id("prose", "more"), "prose", "more", T1, T2, False, [3]),
]


def corpus_of(folder: Path, frames: list[bytes], ids: list[str]) -> list[str]:
    """A corpus of these frames and its index, as arguments of an import."""
    entries, at = [], 0
    for number, (frame, one) in enumerate(zip(frames, ids, strict=True)):
        entries.append(
            {
                "section_id": one,
                "byte_offset": at,
                "length": len(frame),
                "added_at": "2026-02-01T00:00:00",
                "weight": float(number),
            }
        )
        at += len(frame)
    (folder / "corpus.zst").write_bytes(b"".join(frames))
    (folder / "index.json").write_text(json.dumps(sorted(entries, key=lambda one: one["section_id"]), indent=2) + "\n")
    return [str(folder / "corpus.zst"), str(folder / "index.json")]


def test_an_older_corpus_comes_in_with_times_runs_and_weights(lake, tmp_path):
    """Each frame is a section; importing the corpus again adds nothing."""
    files = corpus_of(tmp_path, [encode(one) for one in SNAPSHOTS], [one.section_id for one in SNAPSHOTS])
    [done] = import_corpus(lake, *files)
    assert done.rejected == {}
    query = "select content, first_seen, last_seen, weight, training_runs, auto_mined from replay_sections order by 4"
    assert asked(lake, query) == [
        ("hello", T1, T1, 0.0, None, False),
        (TRIPLE, T1, T2, 1.0, ["1", "3"], True),
        ("more", T1, T2, 2.0, ["3"], False),
    ]
    assert import_corpus(lake, *files)[0].added == 0
    assert encode(SNAPSHOTS[0]) == encode(SNAPSHOTS[0])


def frame_of(said: object) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(cbor2.dumps(said, canonical=True, timezone=UTC))


GOOD = {"section_id": SNAPSHOTS[0].section_id, "section_type": "prose", "content": "hello",
        "first_seen_at": T1.replace(tzinfo=None), "last_seen_at": T1}  # fmt: skip
BAD_FRAMES = [
    (b"no frame", "bad_zstd"),
    (encode(SNAPSHOTS[0])[:-3], "bad_zstd"),
    (encode(SNAPSHOTS[0]) + b"x", "bad_zstd"),
    (zstandard.ZstdCompressor().compress(b"\x00" * (65 << 20)), "bad_zstd"),
    (zstandard.ZstdCompressor().compress(b"\xa1\x61"), "bad_cbor"),
    (frame_of([1]), "bad_snapshot"),
    (frame_of(GOOD | {"more": 1}), "bad_snapshot"),
    (frame_of({name: value for name, value in GOOD.items() if name != "content"}), "bad_snapshot"),
    (frame_of(GOOD | {"section_id": "0" * 16}), "bad_snapshot"),
    *((frame_of(GOOD | {"first_seen_at": T1.replace(year=year)}), "bad_snapshot") for year in (1, 1969, 9999)),
    (frame_of(GOOD | {"first_seen_at": datetime.fromisoformat("1970-01-01T00:00:00+14:00")}), "bad_snapshot"),
    (frame_of(GOOD | {"content": "other"}), "wrong_id"),
    (frame_of(GOOD | {"content": " "}), "empty_section"),
]


@pytest.mark.parametrize(("frame", "reason"), BAD_FRAMES)
def test_a_bad_frame_costs_itself_alone(lake, tmp_path, frame, reason):
    """A frame that is damaged is a reject with its byte offset, and those around it come in."""
    first, last = encode(SNAPSHOTS[1]), encode(SNAPSHOTS[2])
    ids = [SNAPSHOTS[1].section_id, SNAPSHOTS[0].section_id, SNAPSHOTS[2].section_id]
    [done] = import_corpus(lake, *corpus_of(tmp_path, [first, frame, last], ids))
    assert done.rejected == {reason: 1}
    assert asked(lake, "select count(*) from replay_seen") == [(2,)]
    [(_, _, [error])] = rejects(lake)
    assert f"frame at byte {len(first)}, {len(frame)} bytes: " in error


def test_a_corpus_that_ends_early_is_read_as_far_as_it_goes(lake, tmp_path):
    """A short read is one bad frame; a tail that no entry points to is nothing at all."""
    frames = [encode(one) for one in SNAPSHOTS]
    corpus, index = corpus_of(tmp_path, frames, [one.section_id for one in SNAPSHOTS])
    whole = Path(corpus).read_bytes()
    Path(corpus).write_bytes(whole[:-5])
    assert import_corpus(lake, corpus, index)[0].rejected == {"short_read": 1}
    Path(corpus).write_bytes(whole + b"dead bytes")
    assert import_corpus(lake, corpus, index)[0].rejected == {}


@pytest.mark.parametrize(
    "index",
    ["", "{}", "[1]", '[{"section_id": "x", "byte_offset": 0, "length": 1}]',
     '[{"section_id": "0123456789abcdef", "byte_offset": -1, "length": 1}]',
     '[{"section_id": "0123456789abcdef", "byte_offset": 0, "length": 0}]',
     '[{"section_id": "0123456789abcdef", "byte_offset": 0, "length": 1, "weight": -1}]'],
)  # fmt: skip
def test_a_bad_index_imports_nothing(lake, tmp_path, index):
    """An index is an array of entries that can be; what is missing is said."""
    (tmp_path / "index.json").write_text(index)
    with pytest.raises(BadIndex):
        import_corpus(lake, str(tmp_path / "corpus.zst"), str(tmp_path / "index.json"))
    with pytest.raises(BadIndex):
        import_corpus(lake, str(tmp_path / "corpus.zst"), str(tmp_path / "none.json"))
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(LakeError):
        import_corpus(lake, str(tmp_path / "corpus.zst"), str(tmp_path / "index.json"))
