"""Where an export ends up, and where one is read from: a folder on this machine, or a prefix of a bucket.

A folder appears whole or not at all, by one rename; a file, by one link. A bucket has neither: there the files are put
one by one and the receipts last, so an export that has its receipt is whole, and one that was cut short has none.

Not here: what is in an export (`export`).
"""

import fcntl
import mmap
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path, PurePosixPath

from exporters import receipt
from lake import LakeError
from lake.bucket import Bucket
from lake.errors import UsageError
from lake.stores import is_bucket

Place = str | Path
Options = Mapping[str, str] | None  # how to reach a bucket, beside what the environment says

_ANOTHER = "choose a folder that does not exist yet"


def address(place: Place, *below: str) -> str:
    """The full address of a place, or of what is below it."""
    if is_bucket(str(place)):
        return "/".join((str(place).rstrip("/"), *below))
    return str(Path(place, *below).absolute())


def refuse_taken(out: Place, options: Options = None) -> None:
    """Raises UsageError where there is something already."""
    if is_bucket(str(out)):
        if found := Bucket(str(out), options).tree():
            raise _taken(out, export=receipt.NAME in found)
        return
    folder = Path(out)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{out}: this is no folder", _ANOTHER)
    if folder.is_dir() and any(folder.iterdir()):
        raise _taken(out, export=(folder / receipt.NAME).exists())


def appearing(out: Place, options: Options = None) -> AbstractContextManager[Path]:
    """A context with a folder to fill, whose contents appear at `out` when the block ends well, and else nowhere."""
    return _putting(str(out), options) if is_bucket(str(out)) else _renaming(Path(out))


@contextmanager
def appearing_file(out: Path) -> Iterator[Path]:
    """A path to write to, which takes the name `out` when the block ends well, and is gone when it does not.

    Raises UsageError where there is something already, also if it came there in the meantime.
    """
    if out.exists() or out.is_symlink():
        raise _taken_name(out)
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LakeError(f"{out.parent}: {error.strerror}", "choose a folder that can be written to") from None
    path = out.parent / f".{out.name}.{secrets.token_hex(6)}.partial"
    try:
        yield path
        # A link is refused where there is a file already; a renaming would replace it.
        os.link(path, out)
        _sync(out.absolute().parent)
    except FileExistsError:
        raise _taken_name(out) from None
    except OSError as error:
        raise LakeError(
            f"{out}: {error.strerror or error}", "make room or choose another place; nothing was written"
        ) from error
    finally:
        path.unlink(missing_ok=True)


def _taken_name(out: Path) -> UsageError:
    return UsageError(f"{out}: there is something here already", "choose a name that does not exist yet")


@contextmanager
def fetched(place: Place, options: Options = None) -> Iterator[Path]:
    """The files of a place, in a folder on this machine while the block lasts. Raises UsageError if there are none."""
    if not is_bucket(str(place)):
        yield Path(place)
        return
    store = Bucket(str(place), options)
    names = store.tree()
    if not names:
        raise UsageError(f"{place}: there is nothing here", "name a folder that 'lake export' wrote")
    with tempfile.TemporaryDirectory(prefix="lake-") as folder:
        for name in names:
            parts = PurePosixPath(name).parts
            if ".." in parts or name.startswith("/") or "\\" in name:
                raise LakeError(f"{store.url(name)}: this is no name of a file", "an export has no such file")
            path = Path(folder, *parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as sink:
                store.copy(name, sink)
        yield Path(folder)


@contextmanager
def _putting(out: str, options: Options) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lake-") as folder:
        yield Path(folder)
        store = Bucket(out, options)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        done: list[str] = []
        try:
            for path in sorted(files, key=lambda path: (path.name == receipt.NAME, path)):
                name = path.relative_to(folder).as_posix()
                if not _put(store, name, path):
                    raise _taken(out, export=store.exists(receipt.NAME))
                done.append(name)
        except BaseException:
            # Receipts first, so that no moment has one without its files.
            for name in reversed(done):
                with suppress(LakeError):
                    store.remove(name)
            raise


def _put(store: Bucket, name: str, path: Path) -> bool:
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return store.write_new(name, b"")
        return store.write_new(name, memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))


def _taken(out: Place, *, export: bool) -> UsageError:
    what = "an export" if export else "something"
    return UsageError(f"{out}: there is {what} here already", _ANOTHER)


@contextmanager
def _renaming(out: Path) -> Iterator[Path]:
    """A folder to fill, which takes the name `out` when the block ends well and is gone when it does not.

    A process that is killed leaves its hidden folder; the next export to the same place sees that nobody holds it any
    more and removes it.
    """
    parent = out.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent, out.name)
        scratch = parent / f".{out.name}.{secrets.token_hex(6)}.new"
        scratch.mkdir()
        held = _hold(scratch)
        assert held is not None
        # Only what is held is called partial, so that nobody sweeps away what was made a moment ago.
        filled = scratch.rename(scratch.with_suffix(".partial"))
    except OSError as error:
        raise LakeError(f"{parent}: {error.strerror}", "choose a folder that can be written to") from None
    try:
        yield filled
        _publish(filled, out)
    except OSError as error:
        raise LakeError(
            f"{out}: {error.strerror or error}", "make room or choose another folder; nothing was written"
        ) from error
    finally:
        shutil.rmtree(filled, ignore_errors=True)
        os.close(held)


def _publish(filled: Path, out: Path) -> None:
    for folder in (filled, *(path for path in filled.rglob("*") if path.is_dir())):
        _sync(folder)
    try:
        os.rename(filled, out)
    except OSError:
        # Another export came first: what is there stays.
        refuse_taken(out)
        raise
    _sync(out.absolute().parent)


def _sweep(parent: Path, name: str) -> None:
    for left in parent.iterdir():
        if left.name.startswith(f".{name}.") and left.suffix == ".partial" and (held := _hold(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(held)


def _hold(folder: Path) -> int | None:
    """A lock on a folder, as a descriptor; None if another process has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
