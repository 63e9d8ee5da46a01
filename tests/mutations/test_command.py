"""`lake mutate`."""

import json

from cli.app import main
from lake import Lake


def test_a_project_is_mutated_and_what_came_of_it_is_said(project, tmp_path, capsys):
    """The counts go to stdout, the rest to stderr; a dry run stores nothing; a name for two projects is refused."""
    lake = str(tmp_path / "lake")
    Lake.create(lake)
    asked = ["mutate", str(project), "--lake", lake, "--limit", "1", "--workers", "1", "--format", "json"]
    assert main([*asked, "--dry-run", "--repo", "shop"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["project"], row["kept"]) == ("shop", 1)
    assert Lake.open(lake).read("evidence").num_rows == 0
    assert main([*asked, "--total", "0.1"]) == 0
    assert "--total gives more" in capsys.readouterr().err
    assert main([*asked, str(tmp_path), "--repo", "shop"]) == 2
