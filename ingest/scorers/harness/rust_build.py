"""Compiles, inside a sandbox that lets rustc start its linker, first the candidate and then the tests against it.

While the candidate is compiled the tests are in this process's memory and in no file, so that nothing which reads files
at compile time (`include_str!`) finds them. The finished program is written to a file that the parent has opened.
"""

import json
import os
import subprocess
import sys
from typing import Any


def main() -> None:
    """Carry out the orders: a list of stages, each with its files and its command; then hand over what was made."""
    with open("orders", encoding="utf-8") as file:
        orders = json.load(file)
    os.remove("orders")
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "TMPDIR": os.getcwd(), "LC_ALL": "C.UTF-8"}
    answer: dict[str, object] = {"stage": "done", "errors": []}
    for stage in orders["stages"]:
        for name, text in stage["files"].items():
            with open(name, "w", encoding="utf-8", newline="") as file:
                file.write(text)
        done = subprocess.run(stage["command"], env=environment, stderr=subprocess.PIPE, check=False)
        for name in stage["files"]:
            os.remove(name)
        if done.returncode:
            answer = {"stage": stage["name"], "errors": errors(done.stderr), "code": done.returncode}
            break
    program = b""
    if answer["stage"] == "done":
        with open(orders["program"], "rb") as made:
            program = made.read()
    with open(orders["answer"], "wb", closefd=False) as channel:
        channel.write(json.dumps(answer).encode() + b"\n" + program)
    sys.stdout.flush()


def errors(said: bytes) -> list[dict[str, object]]:
    """The compiler's errors: code, message, file and line of each; what is no JSON is one of its own."""
    found: list[dict[str, object]] = []
    for line in said.decode("utf-8", "replace").splitlines():
        try:
            one = json.loads(line)
        except ValueError:
            found.append({"code": "", "message": line[:400], "file": "", "line": 0})
            continue
        if one.get("level", "").startswith("error") and (one.get("spans") or one.get("code")):
            span: dict[str, Any] = next((span for span in one["spans"] if span["is_primary"]), {})
            code = (one.get("code") or {}).get("code", "")
            place = {"file": span.get("file_name", ""), "line": span.get("line_start", 0)}
            found.append({"code": code, "message": one["message"][:400], **place})
    return found[:20]
