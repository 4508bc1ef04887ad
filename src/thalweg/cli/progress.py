"""The progress line: a thread reads the training's counters five times a second and shows them.

Cost: nothing per step; training only sets plain attributes. A log gets one line per epoch (at most
five a second), and one a minute while nothing else is written.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isnan
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from thalweg.cli.terminal import Stream, is_terminal
from thalweg.errors import printable
from thalweg.wording import clock_time

if TYPE_CHECKING:
    from thalweg.api import Progress  # the name alone: importing it loads torch

INTERVAL = 0.2  # s between updates of the line
HEARTBEAT = 60.0  # s without a line after which a log gets one
_BAR = 20  # cells
_ERASE = "\r\x1b[2K"


@contextmanager
def show_progress(progress: "Progress", stream: Stream) -> Iterator[None]:
    """Show the counters while the block runs; remove the line at its end."""
    line = _ProgressLine(progress, stream)
    stop = Event()
    thread = Thread(target=_update_until, args=(stop, line), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _update_until(stop: Event, line: "_ProgressLine") -> None:
    try:
        while not stop.wait(INTERVAL):
            line.update()
        line.end()
    except (OSError, ValueError):
        return  # the reader of the stream is gone; the training goes on


@dataclass(slots=True)
class _Pace:
    """Steps per second since training began, validation and saving included: for the ETA."""

    since: float = 0.0
    first_step: int = -1

    def steps_per_second(self, step: int, now: float) -> float:
        if self.first_step < 0:
            self.since, self.first_step = now, step
        elapsed = now - self.since
        return (step - self.first_step) / elapsed if elapsed > 0 else 0.0


@dataclass(slots=True)
class _ProgressLine:
    progress: "Progress"
    stream: Stream
    pace: _Pace = field(default_factory=_Pace)
    messages_shown: int = 0
    metric_shown: object = None
    last_written: float = field(default_factory=monotonic)
    is_open: bool = False  # a line without its end is on the terminal

    def update(self) -> None:
        self._write_messages()
        if is_terminal(self.stream):
            self._repaint(self._line())
        elif self._epoch_ended():
            self._write(self._line(ended=True))
        elif monotonic() - self.last_written > HEARTBEAT:
            self._write(self._line(bar=False))

    def end(self) -> None:
        self._write_messages()
        if not is_terminal(self.stream) and self._epoch_ended():
            self._write(self._line(ended=True))
        self._erase()

    def _write_messages(self) -> None:
        messages = self.progress.messages[self.messages_shown :]
        self.messages_shown += len(messages)
        for message in messages:
            self._erase()
            self._write(printable(message))

    def _epoch_ended(self) -> bool:
        metric = self.progress.metric
        ended = metric[0] != "" and metric is not self.metric_shown
        self.metric_shown = metric
        return ended

    def _write(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()
        self.last_written = monotonic()

    def _repaint(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1  # the last column would wrap
        fitted = line if cell_len(line) <= width else set_cell_size(line, width)
        self.stream.write(_ERASE + fitted)
        self.stream.flush()
        self.is_open = True

    def _erase(self) -> None:
        if self.is_open:
            self.stream.write(_ERASE)
            self.stream.flush()
            self.is_open = False

    def _line(self, *, bar: bool = True, ended: bool = False) -> str:
        """The counters in a row; with `ended`, for the epoch that has just been validated."""
        progress, bar = self.progress, bar and not ended
        if progress.step == 0 and progress.phase != "training":
            done, total = progress.samples
            return _row(progress.phase, bar and _bar(done, total), total and f"{done}/{total}")
        done, epochs = progress.step // progress.steps_per_epoch, self._epochs()
        return _row(
            bar and f"{progress.phase:<10}",
            bar and _bar(progress.step, progress.steps),
            f"epoch {done if ended else min(done + 1, epochs)}/{epochs}",
            not ended and f"step {progress.step}/{progress.steps}",
            *self._speed(),
            _figure("loss", float(progress.loss)),
            _figure(*progress.metric),
        )

    def _epochs(self) -> int:
        return self.progress.steps // self.progress.steps_per_epoch

    def _speed(self) -> tuple[str, str]:
        progress = self.progress
        rate = self.pace.steps_per_second(progress.step, monotonic())
        if not rate:
            return "", ""
        left = (progress.steps - progress.step) / rate
        return f"{rate * progress.batch_size:.0f} samples/s", f"eta {clock_time(left)}"


def _bar(done: int, total: int) -> str:
    filled = _BAR * done // total if total else 0
    return "━" * filled + "─" * (_BAR - filled)


def _figure(name: str, value: float) -> str:
    return "" if isnan(value) else f"{name} {value:.4g}"


def _row(*parts: str | bool | int) -> str:
    return "  ".join(part for part in parts if isinstance(part, str) and part)
