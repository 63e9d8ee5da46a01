"""Faults under the lake's store: the n-th call fails, loses its answer, comes late, writes half, or kills the process.

`injected(fault)` puts a counting stand-in for `os` (and for what reads whole files) into `lake.files`, through which
every byte of a lake on a local disk goes. Which call is the n-th depends on nothing but what the lake does, so a run is
repeated by the fault alone. `Unlucky` does the same one floor higher, to the calls of any store.

`power` has the model of a power loss; this only lets others watch each call (`Injector.watch`).
"""

import builtins
import contextlib
import errno
import functools
import importlib
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

from lake.errors import LakeError
from lake.files import Content, Entry, Store

# What is counted, and by which name of `os`.
KINDS = {
    "open": "open",
    "write": "write",
    "fsync": "fsync",
    "link": "link",
    "rename": "rename",
    "unlink": "unlink",
    "mkdir": "mkdir",
    "scandir": "list",
    "listdir": "list",
    "stat": "stat",
}
ALL = frozenset({*KINDS.values(), "read"})
MODES = ("fail", "lost", "late", "short", "kill", "kill after")


@dataclass(frozen=True)
class Fault:
    """What happens at the n-th call (`at`, from 1) of the kinds that are counted, and at the `lasts - 1` after it.

    `fail`: an error instead of doing it. `lost`: it is done, and then the error. `late`: done after `seconds`. `short`:
    a write of half of its bytes that says so. `kill`, `kill after`: SIGKILL to this process, before or after.
    """

    at: int
    mode: str
    kinds: frozenset[str] = ALL
    code: int = errno.EIO
    lasts: int = 1
    seconds: float = 0.05

    def __post_init__(self) -> None:
        assert self.mode in MODES, self.mode


NONE = Fault(0, "fail")


class Injector:
    """Counts calls and makes one of them go wrong. `calls` are (kind, the last part of the path) in order."""

    def __init__(self, fault: Fault = NONE) -> None:
        self.fault = fault
        self.calls: list[tuple[str, str]] = []
        self.fired = 0
        self.watch: Callable[[str, tuple[Any, ...], Any], None] | None = None
        self._counted = 0
        self._lock = threading.Lock()

    def call(self, kind: str, what: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Do a call, or what the fault makes of it."""
        with self._lock:
            self.calls.append((kind, os.path.basename(str(given[0])) if given else ""))
            self._counted += kind in self.fault.kinds
            hit = (
                kind in self.fault.kinds and 0 <= self._counted - self.fault.at < self.fault.lasts and self.fault.at > 0
            )
            self.fired += hit
        return self._hit(kind, what, given, named) if hit else self._done(kind, what, given, named)

    def _hit(self, kind: str, what: Callable[..., Any], given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        mode = self.fault.mode
        error = OSError(self.fault.code, f"{os.strerror(self.fault.code)} (injected)")
        if mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "fail":
            raise error
        if mode == "late":
            time.sleep(self.fault.seconds)
        if mode == "short" and kind == "write":
            return self._done(kind, what, (given[0], given[1][: (len(given[1]) + 1) // 2]), named)
        done = self._done(kind, what, given, named)
        if mode == "kill after":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "lost":
            # What was opened is nobody's now.
            if kind == "open":
                os.close(done)
            elif hasattr(done, "close"):
                done.close()
            raise error
        return done

    def _done(self, kind: str, what: Callable[..., Any], given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        done = what(*given, **named)
        if self.watch is not None:
            self.watch(kind, given, done)
        return done


class _Os:
    """`os`, each counted call of which goes through the injector."""

    def __init__(self, injector: Injector) -> None:
        self._injector = injector

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        return functools.partial(self._injector.call, KINDS[name], found) if name in KINDS else found


@contextlib.contextmanager
def injected(fault: Fault = NONE, modules: Sequence[str] = ("lake.files",)) -> Iterator[Injector]:
    """Within this block the fault happens to the calls of these modules."""
    injector = Injector(fault)

    class Path(type(pathlib.Path())):  # type: ignore[misc]
        """A path of which whole files are read through the injector."""

        def read_bytes(self) -> bytes:
            return injector.call("read", pathlib.Path(self).read_bytes)

    def opened(path: str, *given: Any, **named: Any) -> Any:
        return injector.call("read", functools.partial(builtins.open, path, *given, **named))

    with contextlib.ExitStack() as stack:
        for name in modules:
            module = importlib.import_module(name)
            for attribute, stand_in in (("os", _Os(injector)), ("open", opened), ("Path", Path)):
                if hasattr(module, attribute) or attribute == "open":
                    stack.enter_context(mock.patch.object(module, attribute, stand_in, create=attribute == "open"))
        yield injector


class Unlucky(Store):
    """Any store, of which the n-th call goes wrong: put, list, delete, read. Its error is the lake's own."""

    def __init__(self, store: Store, fault: Fault) -> None:
        self._store = store
        self.uri = store.uri
        self.options = store.options
        self._injector = Injector(fault)

    @property
    def fired(self) -> int:
        """How many calls went wrong."""
        return self._injector.fired

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Every call: its kind and the last part of the name."""
        return self._injector.calls

    def write_new(self, name: str, data: bytes | memoryview) -> bool:
        """As the store underneath."""
        return self._call("put", self._store.write_new, name, data)

    def replace(self, name: str, data: bytes) -> None:
        """As the store underneath."""
        self._call("put", self._store.replace, name, data)

    def remove(self, name: str) -> None:
        """As the store underneath."""
        self._call("delete", self._store.remove, name)

    def sync(self, name: str) -> None:
        """As the store underneath."""
        self._call("sync", self._store.sync, name)

    def read(self, name: str) -> bytes:
        """As the store underneath."""
        return self._call("read", self._store.read, name)

    def entry(self, name: str) -> Entry:
        """As the store underneath."""
        return self._call("entry", self._store.entry, name)

    def sha256(self, name: str) -> str:
        """As the store underneath."""
        return self._call("read", self._store.sha256, name)

    def entries(self, folder: str) -> Iterator[Entry]:
        """As the store underneath."""
        yield from self._call("list", lambda name: list(self._store.entries(name)), folder)

    def url(self, name: str) -> str:
        """As the store underneath."""
        return self._store.url(name)

    def source(self, name: str) -> Any:
        """As the store underneath."""
        return self._store.source(name)

    def local(self, files: Sequence[Content]) -> list[str]:
        """As the store underneath."""
        return self._store.local(files)

    def is_empty(self) -> bool:
        """As the store underneath."""
        return self._call("list", self._store.is_empty)

    def _call(self, kind: str, what: Callable[..., Any], *given: Any) -> Any:
        try:
            return self._injector.call(kind, what, *given)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise LakeError(f"{given[0] if given else self.uri}: {error.strerror}", "try again") from error


STORE_KINDS = frozenset({"put", "delete", "sync", "read", "entry", "list"})
