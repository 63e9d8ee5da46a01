"""What a file is, and that nothing in one is ever run."""

import ast
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ingest.run import Options, ingest

ROOT = Path(__file__).parents[2]
FLOORS = ("lake", "views", "ingest", "exporters", "trainers", "cli")


class Trap:
    """Leaves a file behind wherever it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def zipped(name: str, data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(name, data)
    return sink.getvalue()


def tarred(data: bytes) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("f.jsonl"), io.BytesIO(data))
    return sink.getvalue()


def arrayed(trap: Trap) -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.array([trap], dtype=object), allow_pickle=True)
    return sink.getvalue()


def files(trap: Trap) -> dict[str, bytes]:
    """Files that would run something, or that are none of this lake's business."""
    header = b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    found = {f"protocol {number}.pkl": pickle.dumps(trap, number) for number in range(pickle.HIGHEST_PROTOCOL + 1)}
    return found | {
        "protocol 4 named.jsonl": pickle.dumps(trap, 4),
        "protocol 2 named.parquet": pickle.dumps(trap, 2),
        "no name": pickle.dumps(trap, 5),
        "model.pt": zipped("archive/data.pkl", pickle.dumps(trap, 2)),
        "model.pt2": zipped("model/data/weights/w.pt", pickle.dumps(trap, 2)),
        "model.pth": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + pickle.dumps(trap, 2),
        "model.ckpt": pickle.dumps(trap, 0),
        "pipe.joblib": pickle.dumps(trap, 4),
        "array.npy": arrayed(trap),
        "array.json": arrayed(trap),
        "arrays.npz": zipped("a.npy", arrayed(trap)),
        "model.safetensors": struct.pack("<Q", len(header)) + header + bytes(4),
        "model.gguf": b"GGUF\x03\0\0\0" + bytes(100),
        "model.h5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "rows.orc": b"ORC" + bytes(100),
        "rows.feather": b"FEA1" + bytes(100),
        "rows.tar": tarred(pickle.dumps(trap, 4)),
        "rows.7z": b"7z\xbc\xaf\x27\x1c" + bytes(100),
    }


@pytest.mark.parametrize("form", [None, "jsonl"])
def test_what_could_run_something_is_refused_by_its_bytes(form, tmp_path, lake):
    """A pickle, in whatever wrapping and under whatever name, and other people's formats become one clear reject."""
    trap = Trap(tmp_path / "sprung")
    folder = tmp_path / "in"
    folder.mkdir()
    for name, data in files(trap).items():
        (folder / name).write_bytes(data)
    summary = ingest(lake, "evidence", [str(folder / "*")], Options(format=form))
    assert {file.file: file.rejected for file in summary.files} == {
        str(folder / name): {"unknown_format": 1} for name in files(trap)
    }
    assert summary.added == 0
    for reject in lake.read("rejects").to_pylist():
        assert "such files are not read" in reject["errors"][0]
    assert not trap.path.exists()


def test_the_trap_works(tmp_path):
    """Otherwise the test above would prove nothing."""
    trap = Trap(tmp_path / "sprung")
    pickle.loads(pickle.dumps(trap))
    assert trap.path.exists()


FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
FORBIDDEN_CALLS = {("torch", "load"), ("torch", "jit"), ("pd", "read_pickle"), ("pandas", "read_pickle")}


def unsafe(module: Path) -> list[str]:
    """Where a module could load what runs."""
    found = []
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        named = {name.split(".")[0] for name in names} & FORBIDDEN_MODULES
        calls = (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and (node.value.id, node.attr) in FORBIDDEN_CALLS
        )
        allows = isinstance(node, ast.keyword) and (
            (node.arg == "allow_pickle" and getattr(node.value, "value", True) is not False)
            or (node.arg == "weights_only" and getattr(node.value, "value", False) is not True)
        )
        if named or calls or allows:
            found.append(f"{module.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}")
    return found


def test_nothing_here_can_unpickle():
    """No module of the product imports what loads pickles, or asks another library to."""
    modules = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]
    assert len(modules) > 50
    assert [place for module in modules for place in unsafe(module)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "np.load('x', allow_pickle=True)",
        "load('x', weights_only=False)",
    ],
)
def test_what_could_unpickle_is_seen(text, tmp_path, monkeypatch):
    """The check above can fail."""
    (tmp_path / "module.py").write_text(text)
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert unsafe(tmp_path / "module.py")
