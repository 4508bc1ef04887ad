"""The page of what is covered names tests that exist, and more topics do not lose theirs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/coverage.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "`tests/" in line]


def test_every_test_that_it_names_exists():
    files = set(re.findall(r"`(tests/[^`]+)`", PAGE))
    assert files
    assert [name for name in sorted(files) if not (ROOT / name).is_file()] == []


def test_topics_keep_their_tests():
    assert len(ROWS) >= 170
