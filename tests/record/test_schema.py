"""The documented layout is the real one, and plain SQLite reads it."""

import re
import sqlite3
from pathlib import Path

from thalweg.record import RunWriter

DOCUMENT = Path(__file__).parents[2] / "docs" / "run_folder.md"


def documented():
    """Table → [(column, type)], from the headings and tables of the document."""
    text = DOCUMENT.read_text(encoding="utf-8").partition("## Tables")[2]
    parts = re.split(r"^### (\w+)$", text, flags=re.MULTILINE)[1:]
    rows = re.compile(r"^\| (\w+) \| ([A-Z]+) \|", re.MULTILINE)
    return dict(zip(parts[::2], map(rows.findall, parts[1::2]), strict=True))


def test_documented_columns_are_the_real_ones(tmp_path):
    RunWriter(tmp_path / "run").close()
    with sqlite3.connect(tmp_path / "run" / "run.db") as database:
        kinds = dict(
            database.execute("SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')")
        )
        columns_of = {
            name: [(row[1], row[2]) for row in database.execute(f"PRAGMA table_info({name})")]
            for name in kinds
        }
    database.close()
    document = documented()
    assert set(document) == set(columns_of)
    for name, columns in columns_of.items():
        if kinds[name] == "table":
            assert document[name] == columns
        else:  # SQLite does not always know what a view's expression yields
            assert [column for column, _ in document[name]] == [column for column, _ in columns]


def test_documented_version_is_the_real_one(tmp_path):
    RunWriter(tmp_path / "run").close()
    with sqlite3.connect(tmp_path / "run" / "run.db") as database:
        version = database.execute("PRAGMA user_version").fetchone()[0]
    database.close()
    match = re.search(
        r"`PRAGMA user_version` is the number of this layout: (\d+)", DOCUMENT.read_text()
    )
    assert int(match[1]) == version


def test_the_files_in_a_run_are_documented(tmp_path):
    with RunWriter(tmp_path / "run") as writer:
        writer.flush()
        present = {path.name for path in (tmp_path / "run").iterdir()}
    text = DOCUMENT.read_text()
    assert present
    assert all(f"`{name}`" in text for name in present)
