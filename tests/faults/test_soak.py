"""Everything at once, for seconds here and for an hour by `make soak`."""

import pytest

from tests.faults.soak import Soak


@pytest.mark.parametrize("seconds", [5, pytest.param(120, marks=pytest.mark.long)])
def test_all_at_once_breaks_nothing(tmp_path, seconds, seed, report):
    """Writers, readers of pins, compaction, vacuum, verify, random kills: nothing lost, nothing twice, pins whole."""
    soak = Soak(tmp_path, seed)
    soak.run(seconds, lambda line: None)
    assert soak.findings() == []
    told = dict(soak.table())
    figure = f"{told['acknowledged batches']} batches, {told['compactions']} compactions, {soak.kills} kills"
    report("all at once: 4 writers, 2 readers, compactor, vacuum, kills", f"{seconds} s", "0 findings", figure)
