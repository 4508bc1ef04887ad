"""One writer a run; a dead one loses its lock."""

import json
import os
import signal
import socket
import subprocess
import sys
from time import time
from typing import Any

import pytest

from thalweg.errors import RunError
from thalweg.record import RunReader, RunWriter
from thalweg.record.run_lock import SILENCE, live_holder

HOLD = """
import sys; from pathlib import Path; from thalweg.record import RunWriter
writer = RunWriter(Path(sys.argv[1]))
writer.set("state", "running")
writer.flush()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that writes the run in tmp_path."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_with_the_name_of_the_writer(tmp_path, other):
    with pytest.raises(RunError, match=f"process {other.pid} on"):
        RunWriter(tmp_path)
    assert RunReader(tmp_path).state == "running"


def test_a_killed_writer_leaves_the_run_free_and_readable(tmp_path, other):
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert RunReader(tmp_path).state == "died"
    with RunWriter(tmp_path) as writer:
        writer.set("state", "finished")
    assert RunReader(tmp_path).state == "finished"


def test_a_second_writer_in_the_same_process_is_refused(tmp_path):
    with RunWriter(tmp_path), pytest.raises(RunError):
        RunWriter(tmp_path)
    RunWriter(tmp_path).close()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', "null"])
def test_a_damaged_lock_holds_nobody_off(tmp_path, content):
    (tmp_path / "run.lock").write_text(content)
    RunWriter(tmp_path).close()


def test_a_reused_pid_is_not_the_writer(tmp_path):
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": "another boot 1"}
    (tmp_path / "run.lock").write_text(json.dumps(holder))
    assert live_holder(tmp_path) == {}
    RunWriter(tmp_path).close()


def test_another_machine_holds_its_lock_while_it_beats(tmp_path):
    lock = tmp_path / "run.lock"
    lock.write_text(json.dumps({"pid": 1, "host": "elsewhere", "started": "x"}))
    with pytest.raises(RunError, match="elsewhere"):
        RunWriter(tmp_path)
    silent = time() - SILENCE - 1
    os.utime(lock, (silent, silent))
    RunWriter(tmp_path).close()


def test_only_one_of_many_gets_the_run(tmp_path):
    """Ten processes at once: the lock of a dead one is there, and one may take it over."""
    (tmp_path / "run.lock").write_text(json.dumps({"pid": 2**22 + 1, "host": socket.gethostname()}))
    program = (
        "import sys, time; from pathlib import Path; from thalweg.record.run_lock import RunLock\n"
        "from thalweg.errors import RunError\n"
        "sys.stdin.readline()\n"
        "try:\n    RunLock(Path(sys.argv[1])); print('got it', flush=True); sys.stdin.readline()\n"
        "except RunError:\n    print('refused', flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    several = [subprocess.Popen(command, **pipes) for _ in range(6)]
    for process in several:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.stdout.readline().strip() for process in several]
    for process in several:
        process.communicate()
    assert sorted(answers) == ["got it"] + ["refused"] * 5
