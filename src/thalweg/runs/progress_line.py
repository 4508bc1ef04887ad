"""The progress line: a thread reads the training's counters five times a second and shows them.

Cost: nothing per step; training only sets plain attributes. A log gets one line per epoch (at most
five a second), and one a minute while nothing else is written.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isnan
from threading import Event, Thread
from time import monotonic

from rich.cells import cell_len, set_cell_size

from thalweg.errors import printable
from thalweg.planning.progress import Progress
from thalweg.stream import Stream, is_notebook, is_terminal
from thalweg.wording import clock_time

INTERVAL = 0.2  # s between updates of the line
HEARTBEAT = 60.0  # s without a line after which a log gets one
_BAR = 20  # cells
_ERASE = "\r\x1b[2K"


@contextmanager
def progress_by_default(progress: Progress | None) -> Iterator[Progress]:
    """Yield the caller's counters, or else counters of our own, shown while the block runs.

    They are shown on a terminal and in a notebook, not in a log or by a rank whose first rank does.
    """
    if progress is not None:
        yield progress
        return
    from thalweg.distributed.ranks import is_silent

    progress, stream = Progress(), sys.stderr
    paints = stream is not None and (is_terminal(stream) or is_notebook())
    if not paints or is_silent():
        yield progress
        return
    with show_progress(progress, stream):
        yield progress


@contextmanager
def show_progress(progress: Progress, stream: Stream) -> Iterator[None]:
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
    progress: Progress
    stream: Stream
    pace: _Pace = field(default_factory=_Pace)
    messages_shown: int = 0
    metric_shown: object = None
    last_written: float = field(default_factory=monotonic)
    width: int = 0  # of the line without its end that is on the screen; 0: there is none

    @property
    def paints(self) -> bool:
        """True if the line is overwritten; else there is one an epoch."""
        return is_terminal(self.stream) or is_notebook()

    def update(self) -> None:
        self._write_messages()
        if self.paints:
            self._repaint(self._line())
        elif self._epoch_ended():
            self._write(self._line(ended=True))
        elif monotonic() - self.last_written > HEARTBEAT:
            self._write(self._line(bar=False))

    def end(self) -> None:
        self._write_messages()
        if not self.paints and self._epoch_ended():
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
        self._overwrite(fitted)
        self.width = cell_len(fitted)

    def _erase(self) -> None:
        if self.width:
            self._overwrite("")
            self.width = 0

    def _overwrite(self, text: str) -> None:
        """Replace the line on the screen; a notebook knows no code that erases it."""
        if is_terminal(self.stream):
            self.stream.write(_ERASE + text)
        else:
            blank = " " * max(0, self.width - cell_len(text))
            self.stream.write(f"\r{text}{blank}" + "\r" * (not text))
        self.stream.flush()

    def _line(self, *, bar: bool = True, ended: bool = False) -> str:
        """The counters in a row; with `ended`, for the epoch that has just been validated."""
        progress, bar = self.progress, bar and not ended
        if progress.step == 0 and progress.phase != "training":
            done, total = progress.samples
            return _row(progress.phase, bar and _bar(done, total), total and f"{done}/{total}")
        done, epochs = progress.step // progress.steps_per_epoch, self._epochs()
        if ended and progress.step % progress.steps_per_epoch:
            done += 1  # validated within an epoch
        return _row(
            bar and f"{progress.phase:<10}",
            bar and _bar(progress.step, progress.steps),
            f"epoch {done if ended else min(done + 1, epochs)}/{epochs}",
            (not ended or progress.step % progress.steps_per_epoch != 0)
            and f"step {progress.step}/{progress.steps}",
            *self._speed(),
            _figure("loss", float(progress.loss)),
            _figure(*progress.metric),
        )

    def _epochs(self) -> int:
        return -(-self.progress.steps // self.progress.steps_per_epoch)

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
