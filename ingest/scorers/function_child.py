"""Calls a user's function on what it is told: what runs in the sandbox.

`ingest.scorers.function` starts this with one end of a socket open. Each message is four bytes of length and so many
of MessagePack. The first that this side writes says what the function is, or why there is none; then each run is
answered with the function's answer, or with what it raised.

Not here: what an answer must look like. Only what the user's module imports of the product is imported here.
"""

import importlib
import inspect
import json
import os
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

LONGEST = 1 << 30  # bytes of a message; the parent has its own opinion


def read(connection: int) -> Any:
    """The next message; None when there will be none."""
    head = exactly(connection, 4)
    return msgspec.msgpack.decode(exactly(connection, struct.unpack("<I", head)[0])) if head else None


def exactly(connection: int, size: int) -> bytes:
    """So many bytes, or none at the end."""
    parts = []
    while size:
        part = os.read(connection, min(size, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def write(connection: int, message: dict[str, Any]) -> None:
    """Write one message."""
    data = msgspec.msgpack.encode(message)
    view = memoryview(struct.pack("<I", len(data)) + data)
    while view:
        view = view[os.write(connection, view) :]


def found(name: str) -> tuple[Callable[[Any, Any], Any] | None, dict[str, Any]]:
    """The function of this name and what it says of itself; or None and why not."""
    place, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(place)
    except Exception as error:  # noqa: BLE001 -- importing runs whatever the module does
        return None, {"error": f"{type(error).__name__}: {error}"}
    function = getattr(module, attribute, None)
    if not callable(function):
        return None, {"error": f"{place} has no function {attribute!r}"}
    said = getattr(function, "version", None) or getattr(module, "VERSION", None)
    return function, {"version": str(said) if said else None, "text": None if said else inspect.getsource(module)}


def answer(function: Callable[[Any, Any], Any], evidence: Any, task: Any) -> dict[str, Any]:
    """What the function answers, or what it raises and where."""
    try:
        given = function(evidence, task)
        msgspec.msgpack.encode(given)
    except Exception as error:  # noqa: BLE001 -- a function of the user's may raise anything
        line = traceback.extract_tb(error.__traceback__)[-1]
        return {"error": f"{type(error).__name__}: {error}", "where": f"{line.filename}:{line.lineno}"}
    return {"answer": given}


def main() -> None:
    """Carry out the orders, which lie in the working folder."""
    with open("orders.json", "rb") as file:
        orders: dict[str, Any] = json.load(file)
    connection = orders["connection"]
    os.environ["TMPDIR"] = os.getcwd()
    os.chdir(orders["folder"])
    sys.path.insert(0, orders["folder"])
    function, said = found(orders["name"])
    write(connection, said)
    while function is not None and (message := read(connection)) is not None:
        write(connection, answer(function, *message))
