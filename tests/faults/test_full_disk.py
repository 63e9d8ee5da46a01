"""A disk that is full at any moment: one clean error, what was acknowledged is readable, and with room it goes on."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake import Lake
from lake.errors import LakeError
from tests.faults.checker import check, read_table
from tests.faults.operations import append, left_behind

PAGE = 4096
SIZE = 4 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def leave(disk: Path, pages: int) -> None:
    """Fill the disk but for so many pages."""
    about = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(max(0, about.f_bavail * about.f_frsize - pages * PAGE)))


@pytest.mark.parametrize("most", [10, pytest.param(41, marks=pytest.mark.long)])
def test_a_full_disk_loses_nothing_and_can_be_mended(disk, most, report):
    """Whatever it was that found no room: data file, commit, checkpoint or pin: nothing acknowledged is lost by it."""
    root = str(disk / "lake")
    Lake.create(root)
    acknowledged, refused, sequence = [], [], 0
    for round_ in range(most):
        leave(disk, pages=round_)
        for _ in range(6):
            try:
                append(root, "p", sequence)
            except LakeError as error:
                refused.append(error.message)
                break
            acknowledged.append(("p", sequence))
            sequence += 1
        assert check(root, acknowledged) == []
        assert len(Lake.open(root).read("evidence")) == len(read_table(root).ids)
        (disk / "ballast").unlink()
        append(root, "p", sequence)
        acknowledged.append(("p", sequence))
        sequence += 1
    assert len(refused) > most // 3
    assert [message for message in refused if "No space left" not in message] == []
    assert check(root, acknowledged) == []
    lake = Lake.open(root)
    assert list(lake.verify(deep=True)) == []
    assert left_behind(root) == []
    report(
        "the disk is full after n more pages",
        most,
        "acknowledged = readable, works again with room",
        f"{len(refused)} refused",
    )


def test_a_pin_that_finds_no_room_is_none(disk):
    """A pin that cannot be written is an error and no pin; with room it is made."""
    root = str(disk / "lake")
    lake = Lake.create(root)
    append(root, "p", 6)
    leave(disk, pages=0)
    with pytest.raises(LakeError, match="No space left"):
        lake.pin()
    assert lake.snapshots() == []
    (disk / "ballast").unlink()
    made = lake.pin()
    assert lake.snapshots() == [made.id]
    assert check(root, [("p", 6)]) == []
