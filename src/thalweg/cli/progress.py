"""The progress line: a thread that reads the training's counters five times a second.

Cost: nothing per step; training only sets plain attributes. Where the stream is no terminal, one
line an epoch (at most five a second) and, when nothing else was said, one a minute.
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

INTERVAL = 0.2  # s between paintings
HEARTBEAT = 60.0  # s of silence after which a log is told that the run lives
_BAR = 20  # cells
_ERASE = "\r\x1b[2K"


@contextmanager
def painted(progress: "Progress", stream: Stream) -> Iterator[None]:
    """Show the counters while the block runs; the line is gone when it ends."""
    painter = _Painter(progress, stream)
    stop = Event()
    thread = Thread(target=_repeat, args=(painter, stop), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _repeat(painter: "_Painter", stop: Event) -> None:
    try:
        while not stop.wait(INTERVAL):
            painter.paint()
        painter.end()
    except (OSError, ValueError):
        return  # whoever read the progress has gone; the training must not


@dataclass(slots=True)
class _Pace:
    """Updates per second since training began, with all validation and saving: for the ETA."""

    since: float = 0.0
    first_step: int = -1

    def steps_per_second(self, step: int, now: float) -> float:
        if self.first_step < 0:
            self.since, self.first_step = now, step
        elapsed = now - self.since
        return (step - self.first_step) / elapsed if elapsed > 0 else 0.0


@dataclass(slots=True)
class _Painter:
    progress: "Progress"
    stream: Stream
    pace: _Pace = field(default_factory=_Pace)
    messages_shown: int = 0
    metric_shown: object = None
    last_said: float = field(default_factory=monotonic)
    dirty: bool = False  # a line without its end stands on the terminal

    def paint(self) -> None:
        self._say_messages()
        if is_terminal(self.stream):
            self._repaint(self._line())
        elif self._epoch_ended():
            self._say(self._line(ended=True))
        elif monotonic() - self.last_said > HEARTBEAT:
            self._say(self._line(bar=False))

    def end(self) -> None:
        self._say_messages()
        if not is_terminal(self.stream) and self._epoch_ended():
            self._say(self._line(ended=True))
        self._erase()

    def _say_messages(self) -> None:
        messages = self.progress.messages[self.messages_shown :]
        self.messages_shown += len(messages)
        for message in messages:
            self._erase()
            self._say(printable(message))

    def _epoch_ended(self) -> bool:
        metric = self.progress.metric
        ended = metric[0] != "" and metric is not self.metric_shown
        self.metric_shown = metric
        return ended

    def _say(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()
        self.last_said = monotonic()

    def _repaint(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1  # the last column would wrap
        fitted = line if cell_len(line) <= width else set_cell_size(line, width)
        self.stream.write(_ERASE + fitted)
        self.stream.flush()
        self.dirty = True

    def _erase(self) -> None:
        if self.dirty:
            self.stream.write(_ERASE)
            self.stream.flush()
            self.dirty = False

    def _line(self, *, bar: bool = True, ended: bool = False) -> str:
        """The counters in a row; `ended`: of the epoch that has just been validated."""
        progress, bar = self.progress, bar and not ended
        if progress.step == 0 and progress.phase != "training":
            done, total = progress.samples
            return _joined(progress.phase, bar and _bar(done, total), total and f"{done}/{total}")
        done, epochs = progress.step // progress.steps_per_epoch, self._epochs()
        return _joined(
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


def _joined(*parts: str | bool | int) -> str:
    return "  ".join(part for part in parts if isinstance(part, str) and part)
