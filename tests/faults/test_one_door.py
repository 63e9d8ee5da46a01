"""Nothing but the store writes below a lake: what the kernel sees is what the store was asked, call for call."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALLS = {
    "open": "open",
    "openat": "open",
    "creat": "open",
    "rename": "rename",
    "renameat": "rename",
    "renameat2": "rename",
    "link": "link",
    "linkat": "link",
    "unlink": "unlink",
    "unlinkat": "unlink",
    "rmdir": "unlink",
    "mkdir": "mkdir",
    "mkdirat": "mkdir",
    "truncate": "truncate",
    "symlink": "link",
    "symlinkat": "link",
}
LINE = re.compile(r"(?:\[pid +\d+\] |\d+ +)?(\w+)\((.*)\) += +(-?\d+)")

PROGRAM = """
import json, os, sys
from datetime import timedelta
from lake import Lake
from lake.compact import compact
from lake.vacuum import vacuum
from tests.faults.injector import injected
from tests.faults.operations import append

root, told = sys.argv[1:]
calls = []

def watch(kind, given, done):
    if kind in {"rename", "link", "unlink", "mkdir"} or (kind == "open" and given[1] & os.O_CREAT):
        calls.append((kind, given[0]))

with injected() as injector:
    injector.watch = watch
    lake = Lake.create(root)
    for sequence in range(23):
        append(root, "p", sequence)
    lake.pin()
    list(compact(lake))
    vacuum(lake, timedelta(0), force=True)
    assert list(lake.verify(deep=True)) == []
with open(told, "w") as file:
    json.dump(calls, file)
"""


def test_nothing_but_the_store_writes(tmp_path, report):
    """Under create, append, checkpoint, pin, compact and vacuum, deltalake and pyarrow write nothing below the lake."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace here")
    root, told, trace = tmp_path / "lake", tmp_path / "told", tmp_path / "trace"
    watched = f"trace={','.join(f'?{name}' for name in CALLS)}"
    # A file for each thread, or the lines of two would be torn into halves.
    command = ["strace", "-ff", "-s", "4096", "-e", watched, "-o", str(trace), sys.executable, "-c", PROGRAM]
    done = subprocess.run([*command, str(root), str(told)], cwd=ROOT, capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("strace may not look here")
    assert done.returncode == 0, done.stderr[-2000:]
    asked = Counter((kind, path) for kind, path in json.loads(told.read_text()))
    seen: Counter[tuple[str, str]] = Counter()
    for line in (line for path in tmp_path.glob("trace.*") for line in path.read_text().splitlines()):
        match = LINE.match(line)
        if not match or int(match[3]) < 0 or str(root) not in match[2]:
            continue
        kind = CALLS[match[1]]
        if kind != "open" or re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND", match[2]):
            seen[kind, re.search(r'"([^"]*)"', match[2])[1]] += 1
    assert len(seen) > 100
    assert seen == asked
    report("create to vacuum under strace", f"{seen.total()} calls", "nothing but the store writes below the lake")
