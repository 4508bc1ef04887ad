"""The progress line, on a real pseudo-terminal and in a log."""

import os
import pty
import time
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from math import nan

import pytest

from thalweg.api import Progress
from thalweg.runs import progress_line
from thalweg.runs.progress_line import show_progress


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(progress_line, "INTERVAL", 0.01)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


def train(progress, epochs=2, per_epoch=3):
    """What the trainer does to the counters, slowly enough to be seen."""
    progress.phase, progress.steps, progress.batch_size = "training", epochs * per_epoch, 8
    progress.steps_per_epoch = per_epoch
    for step in range(1, progress.steps + 1):
        time.sleep(0.03)
        progress.step, progress.loss = step, 1 / step
        if step % per_epoch == 0:
            progress.metric = ("val_accuracy", step / 10)
            time.sleep(0.05)


def test_a_log_gets_one_line_an_epoch_and_each_message_once():
    progress, log = Progress(), StringIO()
    with show_progress(progress, log):
        progress.messages.append("images brought to 32 px")
        train(progress)
    lines = log.getvalue().splitlines()
    assert lines[0] == "images brought to 32 px"
    assert [line.split("  ")[0] for line in lines[1:]] == ["epoch 1/2", "epoch 2/2"]
    assert lines[1].endswith("val_accuracy 0.3")
    assert lines[2].endswith("loss 0.1667  val_accuracy 0.6")
    assert "\r" not in log.getvalue()
    assert "\x1b" not in log.getvalue()


def test_silence_is_broken_by_a_heartbeat(monkeypatch):
    monkeypatch.setattr(progress_line, "HEARTBEAT", 0.05)
    progress, log = Progress(phase="reading", samples=(3, 10)), StringIO()
    with show_progress(progress, log):
        time.sleep(0.2)
    assert set(log.getvalue().splitlines()) == {"reading  3/10"}
    assert 1 <= log.getvalue().count("\n") <= 4


def on_a_terminal(action):
    """What a terminal was sent while `action(stream)` ran."""
    ours, theirs = pty.openpty()
    with ThreadPoolExecutor(1) as reader:
        sent = reader.submit(read_all, ours)
        with open(theirs, "w", encoding="utf-8") as stream:  # noqa: PTH123  # a descriptor
            action(stream)
        return sent.result()


def read_all(descriptor):
    sent = b""
    try:
        while some := os.read(descriptor, 4096):
            sent += some
    except OSError:  # how Linux tells that the other end has closed
        os.close(descriptor)
    return sent.decode()


def test_a_terminal_gets_one_line_repainted_and_left_clean():
    def action(stream):
        progress = Progress()
        with show_progress(progress, stream):
            progress.messages.append("a note\x1b[2J")
            train(progress)

    sent = on_a_terminal(action)
    assert "a note\\x1b[2J\r\n" in sent
    assert sent.count("\n") == 1  # the message's; the line itself never ends
    assert sent.endswith("\r\x1b[2K")
    last = sent.split("\r\x1b[2K")[-2]
    for part in ("training", "━━━━", "epoch 2/2", "step 6/6", "samples/s", "eta 0:00", "loss"):
        assert part in last


def test_a_terminal_that_cannot_repaint_is_treated_as_a_log(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")

    def action(stream):
        with show_progress(progress := Progress(), stream):
            train(progress)

    assert "\x1b" not in on_a_terminal(action)


def test_a_narrow_terminal_is_not_wrapped(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")

    def action(stream):
        with show_progress(progress := Progress(), stream):
            train(progress)

    lines = on_a_terminal(action).split("\r\x1b[2K")
    assert max(map(len, lines)) == 39


def test_training_goes_on_when_nobody_reads_the_progress():
    """pytest turns an exception in the thread into a warning, and so into an error."""

    class Gone(StringIO):
        def write(self, text):
            raise BrokenPipeError

    progress = Progress(messages=["hello"])
    with show_progress(progress, Gone()):
        train(progress)


def test_counters_before_the_first_step_are_shown():
    progress, log = Progress(loss=nan), StringIO()
    one = progress_line._ProgressLine(progress, log)
    assert one._line() == "starting  " + "─" * 20
