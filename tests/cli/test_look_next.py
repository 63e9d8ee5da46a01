"""What a demo leaves its reader with: commands that work when they are typed."""

import os
import sys
import time

from cli import demo_train


def test_where_lake_is_not_on_the_path_the_environment_comes_first(capsys, monkeypatch, tmp_path):
    """Before the commands stands the one that makes them known, unless they are."""
    monkeypatch.setenv("PATH", str(tmp_path))
    demo_train.look_next(time.monotonic(), "lake why demo/run/model")
    *_, first, second = capsys.readouterr().err.splitlines()
    assert (first, second) == (f"  source {os.path.relpath(sys.prefix)}/bin/activate", "  lake why demo/run/model")
    (tmp_path / "lake").touch(0o755)
    demo_train.look_next(time.monotonic(), "lake why demo/run/model")
    assert "activate" not in capsys.readouterr().err
