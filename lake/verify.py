"""Proves that what is stored is what was written: chains of commits, files, pins."""

from collections.abc import Iterator, Mapping

from lake.commits import History, chain
from lake.errors import LakeError
from lake.files import Store
from lake.log import Log
from lake.snapshots import Snapshot


def verify_log(store: Store, log: Log) -> Iterator[str]:
    """What is wrong with the log, a line each; nothing if every link holds and they add up to the files in use."""
    history = History()
    for link in chain(store, log.kind):
        yield from (f"{link.name}: {problem}" for problem in link.problems)
        history.follow(link)
    try:
        used = {file.path for file in log.head().files}
    except LakeError as error:
        yield error.message
    else:
        if used != history.live.keys():
            yield f"{log.folder}: the newest version has other files than its commits have added"


def verify_states(
    logs: Mapping[str, Log], states: Iterator[tuple[str, Snapshot | LakeError]], *, deep: bool
) -> Iterator[str]:
    """What is wrong with the files of snapshots, and with the logs' memory of them, a line each."""
    seen: set[str] = set()
    for label, snapshot in states:
        if isinstance(snapshot, LakeError):
            yield f"{label}: {snapshot.message}"
            continue
        gone = [kind for kind, pin in snapshot.tables.items() if not logs[kind].holds(pin)]
        if gone:
            yield f"{label}: the log no longer has the version of {', '.join(gone)} that was pinned"
        for problem in snapshot.verify(deep=deep):
            if problem not in seen:
                seen.add(problem)
                yield f"{label}: {problem}"
