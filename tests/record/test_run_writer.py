"""A run comes back as it was written, also while it is written, and from a disk that fails."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from math import inf, isnan, nan
from threading import Thread
from time import monotonic, sleep

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thalweg.errors import RunError, ThalwegWarning
from thalweg.record import History, PredictionRow, RunReader, RunWriter, quantity_called
from thalweg.record.quantities import GRADIENT_NORM, LOSS, VAL_LOSS
from thalweg.record.schema import DATABASE

NASTY = ["", "a\nb", "🦜", "caf\udce9.jpg", "\ud800", "\x00", "\u202egpj.exe", "-rf", "x" * 5000]
names = st.one_of(st.sampled_from(NASTY), st.text(st.characters(), max_size=20))
readings = st.tuples(
    st.sampled_from(["loss", "gradient_norm", "my own number"]),
    st.integers(0, 10**12),
    st.dictionaries(names, st.floats(), max_size=3),
)


def table(history):
    """Everything in a history, NaN as text, so that it can be compared; −0 is 0 to SQLite."""
    return {
        quantity: {
            place: [(step, repr(value + 0.0)) for step, value in series.items()]
            for place, series in history.by_place(quantity).items()
        }
        for quantity in history
        if quantity in history
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    parent = tmp_path_factory.mktemp("property")
    return (parent / str(number) for number in range(10**6))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(readings, max_size=12))
def test_measurements_come_back_as_they_were(rows, folders):
    folder = next(folders)
    with RunWriter(folder) as writer:
        written = History(writer.add)
        for name, step, values in rows:
            written.add(quantity_called(name), step, values)
    assert table(RunReader(folder).history) == table(written)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.tuples(names, names, names, names), probability=st.floats(), picture=st.binary())
def test_predictions_events_and_quarantine_come_back(texts, probability, picture, folders):
    folder = next(folders)
    split, name, target, predicted = texts
    row = PredictionRow(split, name, target, predicted, probability + 0.0, picture)
    with RunWriter(folder) as writer:
        writer.predictions([row])
        writer.quarantine([texts[:2]])
        writer.event(texts[0], texts[1], step=7, name=texts[2])
        writer.set("note", texts[3])
    run = RunReader(folder)
    assert repr(run.predictions) == repr([row])
    assert run.quarantined == [texts[:2]]
    assert [(e.kind, e.message, e.step, e.detail) for e in run.events] == [
        (texts[0], texts[1], 7, {"name": texts[2]})
    ]
    assert run.meta["note"] == texts[3]


def test_nan_is_null_and_infinity_stays(tmp_path):
    with RunWriter(tmp_path) as writer:
        for step, value in enumerate([1.5, nan, inf, -inf]):
            writer.add(LOSS, step, {"": value})
        writer.set("metrics", {"val_loss": nan, "val_accuracy": 0.5})
    with sqlite3.connect(tmp_path / "run.db") as database:
        rows = database.execute("SELECT value FROM measurements ORDER BY step").fetchall()
    database.close()
    assert rows == [(1.5,), (None,), (inf,), (-inf,)]
    assert isnan(RunReader(tmp_path).history.series(LOSS)[1])
    assert RunReader(tmp_path).meta["metrics"] == {"val_loss": None, "val_accuracy": 0.5}


def test_readable_while_written_without_a_flush(tmp_path):
    """Within a second on a quiet machine; on a busy one, it is waited for."""
    with RunWriter(tmp_path) as writer:
        writer.add(LOSS, 0, {"": 2.0})
        end = monotonic() + 60
        while not RunReader(tmp_path).history.series(LOSS) and monotonic() < end:
            sleep(0.05)
        assert RunReader(tmp_path).history.series(LOSS) == {0: 2.0}
        assert RunReader(tmp_path).state == "running"


def test_readers_see_whole_prefixes_and_never_block_the_writer(tmp_path):
    """At every moment, a reader sees a prefix of the written measurements."""
    with RunWriter(tmp_path) as writer:
        prefixes, stop = [], []

        def read():
            while not stop:
                prefixes.append(list(RunReader(tmp_path).history.series(LOSS)))

        reader = Thread(target=read)
        reader.start()
        step = 0
        while step < 20_000 or (len(prefixes) < 4 and reader.is_alive()):
            writer.add(LOSS, step, {"": float(step)})
            if step % 2000 == 0:
                writer.flush()
            if step >= 20_000:  # the reader is slow: few more, or it would thin the series
                sleep(0.01)
            step += 1
        writer.flush()
        stop.append(True)
        reader.join()
    assert len(prefixes) >= 4
    assert all(steps == list(range(len(steps))) for steps in prefixes)
    assert len(RunReader(tmp_path).history.series(LOSS)) == step


def test_adding_waits_for_no_disk(tmp_path):
    """Another connection holds the file, and releases it only when all is added."""
    with RunWriter(tmp_path) as writer:
        with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for step in range(5000):
                writer.add(LOSS, step, {"": 1.0})
            assert not RunReader(tmp_path).history.series(LOSS)
            other.execute("ROLLBACK")
        writer.flush()
        assert len(RunReader(tmp_path).history.series(LOSS)) == 5000


def test_resume_deletes_later_measurements(tmp_path):
    with RunWriter(tmp_path) as writer:
        for step in range(10):
            writer.add(LOSS, step, {"": float(step)})
        writer.add(VAL_LOSS, 4, {"": 0.5})
        writer.add(VAL_LOSS, 9, {"": 0.4})
        writer.predictions([PredictionRow("val", "a", "x", "y")])
        writer.event("interrupted", "stopped", step=9)
    with RunWriter(tmp_path, resume_from=5) as writer:
        writer.add(LOSS, 5, {"": -1.0})
        writer.add(GRADIENT_NORM, 5, {"a new place": 1.0})
    run = RunReader(tmp_path)
    assert run.history.series(LOSS) == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0, 5: -1.0}
    assert run.history.series(VAL_LOSS) == {4: 0.5}
    assert run.history.series(GRADIENT_NORM, "a new place") == {5: 1.0}
    assert run.predictions == []
    assert [event.kind for event in run.events] == ["interrupted"]


def test_history_before_a_step(tmp_path):
    with RunWriter(tmp_path) as writer:
        for step in range(10):
            writer.add(LOSS, step, {"": float(step)})
    assert list(RunReader(tmp_path).history_before(3).series(LOSS)) == [0, 1, 2]


def test_diagnosis_is_readable_as_a_table(tmp_path):
    findings = [{"rule": "overfitting", "severity": "warning", "summary": "it does"}]
    with RunWriter(tmp_path) as writer:
        writer.findings(json.dumps({"findings": []}))
        writer.findings(json.dumps({"findings": findings}))
    with sqlite3.connect(tmp_path / "run.db") as database:
        rows = database.execute("SELECT rule, severity, summary FROM findings").fetchall()
    database.close()
    assert rows == [("overfitting", "warning", "it does")]
    assert json.loads(RunReader(tmp_path).diagnosis_json) == {"findings": findings}


def test_a_closed_run_is_one_plain_file(tmp_path):
    with RunWriter(tmp_path) as writer:
        writer.add(LOSS, 0, {"": 1.0})
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]


def test_a_step_that_no_disk_can_hold_costs_only_its_batch(tmp_path):
    writer = RunWriter(tmp_path)
    writer.add(LOSS, 2**70, {"": 1.0})
    writer.flush()
    writer.add(LOSS, 1, {"": 1.0})
    writer.flush()
    with pytest.warns(ThalwegWarning, match="1 entries lost"):
        writer.close()
    assert RunReader(tmp_path).history.series(LOSS) == {1: 1.0}


def test_a_folder_that_cannot_be_made_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        RunWriter(tmp_path / "file" / "run")


def test_a_deleted_run_warns_and_does_not_raise(tmp_path):
    writer = RunWriter(tmp_path)
    writer.flush()
    (tmp_path / "run.db").unlink()
    writer.add(LOSS, 0, {"": 1.0})
    with pytest.warns(ThalwegWarning, match="deleted"):
        writer.close()


FULL_DISK = """
import resource, sys, warnings
from pathlib import Path
from time import sleep
from thalweg.record import RunWriter
from thalweg.record.quantities import LOSS
writer = RunWriter(Path(sys.argv[1]))
writer.add(LOSS, 0, {"": 1.0})
writer.flush()
size = max(path.stat().st_size for path in Path(sys.argv[1]).iterdir())
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))   # every file is now as large as it may be
for step in range(1, 2000):
    writer.add(LOSS, step, {"": float(step)})
writer.flush()
sleep(0.6)
if sys.argv[2] == "recovers":
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    writer.flush()
    writer.flush()
    writer.close()
print("\\n".join(str(warning.message) for warning in caught))
"""


@pytest.mark.parametrize("ending", ["recovers", "stays full"])
def test_a_full_disk_does_not_stop_the_caller(tmp_path, ending):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), ending]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    run = RunReader(tmp_path)
    if ending == "recovers":
        assert done.stdout.strip() == ""
        assert list(run.history.series(LOSS)) == list(range(2000))
        assert [event.kind for event in run.events] == ["record-interrupted"]
        assert run.events[0].detail["lost"] == 0
    else:
        assert "1999 entries lost" in done.stdout
        assert run.history.series(LOSS) == {0: 1.0}


def test_memory_is_bounded_while_the_disk_accepts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("thalweg.record.run_writer.MOST_PENDING", 100)
    writer = RunWriter(tmp_path)
    writer.flush()
    blocker = sqlite3.connect(tmp_path / "run.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")  # as a user's own shell might
    writer._database.execute("PRAGMA busy_timeout = 10")
    for step in range(1000):
        writer.add(LOSS, step, {"": 1.0})
    writer.flush()
    assert len(writer._pending) == 100
    blocker.execute("ROLLBACK")
    blocker.close()
    writer.flush()
    with pytest.warns(ThalwegWarning, match="900 entries lost"):
        writer.close()
    assert list(RunReader(tmp_path).history.series(LOSS)) == list(range(900, 1000))


def test_closing_in_a_forked_child_leaves_the_run_to_its_writer(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from thalweg.record import RunWriter\n"
        "w = RunWriter(Path(sys.argv[1]))\n"
        "child = os.fork()\n"
        "if child == 0:\n    w.close(); os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "assert Path(sys.argv[1], 'run.lock').exists()\n"
        "w.set('state', 'finished'); w.close()\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)
    assert RunReader(tmp_path).state == "finished"


def test_a_forgotten_close_still_writes_at_exit(tmp_path):
    program = (
        "import sys; from pathlib import Path; from thalweg.record import RunWriter\n"
        "RunWriter(Path(sys.argv[1])).set('state', 'finished')\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)
    assert RunReader(tmp_path).meta["state"] == "finished"
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]
