"""The tables of goals in both README.md are those that today's results make."""

import json
import runpy
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"
TABLE = runpy.run_path(str(FOLDER / "_table.py"))


def test_readme_holds_the_table_of_the_results():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    shown = page.partition(TABLE["BEGIN"])[2].partition(TABLE["END"])[0]
    assert shown == TABLE["table"](FOLDER / "results"), "python -m benchmarks table"


def test_the_first_page_holds_what_was_measured_and_nothing_else():
    page = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    shown = page.partition(TABLE["BEGIN"])[2].partition(TABLE["END"])[0]
    assert shown == TABLE["short_table"](FOLDER / "results"), "python -m benchmarks table"
    assert TABLE["NOT_MEASURED"] not in shown


def test_a_result_stands_in_the_place_of_its_goal(tmp_path):
    result = {"claim": "C9", "goal": "≤ 1/3", "measured": "0.30", "held": True, "n": 5}
    unclaimed = {"benchmark": "start_time", "n": 11}
    for name, found in {"first_batch": result, "start_time": unclaimed}.items():
        text = json.dumps({"benchmark": name, **found})
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    rows = TABLE["table"](tmp_path).splitlines()[2:]
    assert len(rows) == len(TABLE["GOALS"])
    assert [row for row in rows if row.startswith("| C9")] == [
        "| C9 | first batch of 10,000 JPEGs | ≤ 1/3 | 0.30 | yes | 5 | `first_batch` |"
    ]
    assert all(TABLE["NOT_MEASURED"] in row for row in rows if not row.startswith("| C9"))
