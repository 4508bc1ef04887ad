"""Names of runs, the list of runs, and folders without a run."""

import re
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import RunError, UsageError
from thalweg.record import RunReader, RunWriter, claim_run_folder, list_runs
from thalweg.record.quantities import LOSS
from thalweg.record.run_folder import run_id


@given(st.text())
def test_an_id_is_safe_as_a_path(stem):
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?", run_id(stem))


@pytest.mark.parametrize(
    ("stem", "name"),
    [("flowers", "flowers"), ("My Photos!", "my-photos"), ("../x", "x"), ("Blümen", "blumen"),
     ("花", "run"), ("", "run"), ("<script>", "script")],
)  # fmt: skip
def test_ids(stem, name):
    assert run_id(stem) == name


def test_numbers_go_up_and_gaps_are_not_filled(tmp_path):
    names = [claim_run_folder(tmp_path / "runs", "flowers").name for _ in range(3)]
    assert names == ["flowers-1", "flowers-2", "flowers-3"]
    (tmp_path / "runs" / "flowers-1").rmdir()
    assert claim_run_folder(tmp_path / "runs", "flowers").name == "flowers-4"
    assert claim_run_folder(tmp_path / "runs", "flowers-4").name == "flowers-4-1"


def test_no_two_claims_get_the_same(tmp_path):
    claimed = []
    claim = lambda: claimed.append(claim_run_folder(tmp_path, "x"))  # noqa: E731
    threads = [Thread(target=claim) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(claimed)) == 16


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="no run can be made"):
        claim_run_folder(tmp_path / "file", "x")


def test_list_of_runs(tmp_path):
    with RunWriter(tmp_path / "b-1") as writer:
        writer.set("state", "finished")
        writer.set("model", "convnet")
        writer.set("headline_metric", "val_accuracy")
        writer.set("metrics", {"val_accuracy": 0.75})
        writer.add(LOSS, 41, {"": 1.0})
    with RunWriter(tmp_path / "a-1") as writer:
        writer.set("state", "running")
    (tmp_path / "c-1").mkdir()
    (tmp_path / "c-1" / "run.db").write_bytes(b"no database, but long enough to look like one" * 9)
    (tmp_path / "no run").mkdir()
    runs = {run.path.name: run for run in list_runs(tmp_path)}
    assert {name: run.state for name, run in runs.items()} == {
        "b-1": "finished",
        "a-1": "died",
        "c-1": "unreadable",
    }
    assert (runs["b-1"].metric, runs["b-1"].value, runs["b-1"].steps) == ("val_accuracy", 0.75, 42)
    assert list(runs)[:2] == ["b-1", "a-1"]  # oldest first


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(RunError, match="is no run"):
        RunReader(tmp_path)
    with pytest.raises(RunError, match="cannot be listed"):
        list_runs(tmp_path / "nowhere")


@pytest.mark.parametrize("cut", [0, 100, 5000])
def test_a_damaged_file_is_an_error_of_ours_or_a_shorter_run(tmp_path, cut):
    with RunWriter(tmp_path) as writer:
        for step in range(3000):
            writer.add(LOSS, step, {"": 1.0})
    whole = (tmp_path / "run.db").read_bytes()
    (tmp_path / "run.db").write_bytes(whole[:cut])
    with pytest.raises(RunError):
        len(RunReader(tmp_path).history.series(LOSS))


def test_a_newer_layout_is_refused(tmp_path):
    import sqlite3

    RunWriter(tmp_path).close()
    with sqlite3.connect(tmp_path / "run.db") as database:
        database.execute("PRAGMA user_version = 999")
    database.close()
    with pytest.raises(RunError, match="newer"):
        RunReader(tmp_path)
    with pytest.raises(RunError, match="newer"):
        RunWriter(tmp_path)


def test_a_strange_path(tmp_path):
    folder = tmp_path / "a b?c#d%20 ü\n" / "run"
    with RunWriter(folder) as writer:
        writer.set("state", "finished")
    assert RunReader(folder).state == "finished"
