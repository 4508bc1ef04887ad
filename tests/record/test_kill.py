"""kill -9 at many moments: the file is whole, and at most the last second is lost."""

import random
import sqlite3
import subprocess
import sys
from time import sleep
from typing import Any

import pytest

from thalweg.record import RunReader, RunWriter
from thalweg.record.quantities import LOSS

MOMENTS = 12
WRITE = """
import sys, time
from pathlib import Path
from thalweg.record import PredictionRow, RunWriter
from thalweg.record.quantities import GRADIENT_NORM, LOSS
writer = RunWriter(Path(sys.argv[1]))
print("open", flush=True)
start = time.monotonic()
for step in range(10**9):
    writer.add(LOSS, step, {"": time.monotonic() - start})
    writer.add(GRADIENT_NORM, step, {f"weight {i}": 1.0 for i in range(20)})
    if step % 100 == 0:
        writer.event("tick", "x" * 2000, step=step)
        writer.predictions([PredictionRow("val", "a", "b", "c", 0.5, b"x" * 20000)])
        sys.stdout.write(f"{time.monotonic() - start}\\n"); sys.stdout.flush()
    time.sleep(0.0005)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Runs whose writers were killed, with the times that these had printed."""
    parent = tmp_path_factory.mktemp("killed")
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
    writers = []
    for moment in range(MOMENTS):
        folder = parent / str(moment)
        writers.append((folder, subprocess.Popen([sys.executable, "-c", WRITE, folder], **pipes)))
    runs = []
    for folder, process in writers:
        assert process.stdout.readline() == "open\n"
        sleep(random.Random(str(folder.name)).uniform(0.0, 0.3))
        process.kill()
        runs.append((folder, [float(line) for line in process.communicate()[0].split()]))
    return runs


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_at_any_moment(killed, moment):
    folder, printed = killed[moment]
    run = RunReader(folder)
    times = run.history.series(LOSS)
    assert list(times) == list(range(len(times)))  # a beginning of what was written, without holes
    if printed:
        assert max(times.values(), default=0.0) > printed[-1] - 1.0
    assert run.state == "died"
    with sqlite3.connect(folder / "run.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    with RunWriter(folder, resume_from=len(times)) as writer:
        writer.add(LOSS, len(times), {"": 0.0})
    assert len(RunReader(folder).history.series(LOSS)) == len(times) + 1
