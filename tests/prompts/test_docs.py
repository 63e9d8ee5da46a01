"""The examples of docs/prompts.md work, and it names every reason there is."""

import re
from pathlib import Path

from ingest.prompts.config import decoded
from ingest.readers import READERS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "prompts.md").read_text("utf-8")


def test_the_configuration_is_one():
    """The example has no key that there is not, and its shares add up."""
    (text,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    config = decoded(text, "docs/prompts.md")
    assert sum(config.quotas().values()) == config.target_size
    assert config.near_duplicate == type(config)(target_size=1).near_duplicate


def test_every_reader_of_prompts_is_named():
    """Each has a row of its own in the table."""
    for reader in READERS.values():
        if "prompts" in reader.kinds:
            assert f"| `{reader.name}` |" in PAGE


def test_every_reason_is_named():
    """What the code counts a prompt under is explained, be it in Python or SQL."""
    code = (ROOT / "ingest" / "prompts" / "pool.py").read_text("utf-8")
    found = set(re.findall(r'\["(\w+)"\] (?:\+=|=)', code)) | set(re.findall(r'reason = "(\w+)"', code))
    sql = (ROOT / "ingest" / "prompts" / "candidates.sql").read_text("utf-8")
    sql += (ROOT / "views" / "quarantine" / "prompts_checks.sql").read_text("utf-8")
    found |= set(re.findall(r"then '(\w+)'", sql))
    assert len(found) > 10
    assert [reason for reason in sorted(found) if f"`{reason}`" not in PAGE] == []
