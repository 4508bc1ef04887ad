"""Run a program under watch: `thalweg run`, less what it prints."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.adapters.script.import_hook import call_after_import
from thalweg.adapters.script.main_module import (
    check_program,
    run_as_main,
    show_error,
    wait_for_threads,
    without_our_frames,
)

if TYPE_CHECKING:
    from thalweg.adapters.script.run_folders import RunFolders
    from thalweg.adapters.script.session import Session
    from thalweg.diagnosis import Diagnosis
    from thalweg.record import History, RunReader

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class WatchedTraining:
    """One training of the program: its diagnosis, and its run unless none was to be written."""

    name: str
    diagnosis: "Diagnosis"
    run: "RunReader | None"


@dataclass(slots=True, kw_only=True)
class ProgramRun:
    """A program that has ended, in whatever way."""

    error: BaseException | None = None  # SystemExit among them
    trainings: list[WatchedTraining] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # for whoever ran it

    @property
    def succeeded(self) -> bool:
        """True if Python would exit with 0."""
        if isinstance(self.error, SystemExit):
            return self.error.code in (None, 0)
        return self.error is None


def run_program(command: Sequence[str], *, out: Path | None, say: Say) -> ProgramRun:
    """Run a Python program, watched; return its end. Its exceptions are shown, not raised.

    Runs are written below `out`; None writes none. `say` receives a line while the program runs,
    once an error stands. Of several ranks, all watch, and only the first writes and speaks.
    Raises UsageError where the command names no program.
    """
    check_program(command)
    watch = _Watch(Path(command[1] if command[0] == "-m" else command[0]), out, say)
    ended = ProgramRun()
    with watch.install():
        try:
            run_as_main(command)
        except BaseException as error:
            ended.error = without_our_frames(error)
            if not isinstance(error, SystemExit):
                show_error(ended.error)
        ended.error = _wait_for_threads() or ended.error
        watch.stop()
    with _default_interrupt():
        watch.finish(ended)
    return ended


def is_first_rank() -> bool:
    """True unless a launcher has started this process as another rank than the first."""
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


def _wait_for_threads() -> BaseException | None:
    try:
        wait_for_threads()
    except BaseException as error:  # Ctrl-C
        show_error(without_our_frames(error))
        return error
    return None


@contextmanager
def _default_interrupt() -> Iterator[None]:
    """Let the next Ctrl-C end the process at once."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is not None:  # None: it was not set from Python
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    yield
    if handler is not None:
        signal.signal(signal.SIGINT, handler)


class _Watch:
    """The session of a program: none until the program imports torch."""

    def __init__(self, program: Path, out: Path | None, say: Say) -> None:
        self._program, self._say = program, say
        self._out = None if out is None else out.absolute()
        self._session: Session | None = None
        self._folders: RunFolders | None = None
        self._failure = ""
        self._events = ExitStack()

    @contextmanager
    def install(self) -> Iterator[None]:
        with call_after_import("torch", self._begin), self._events:
            yield

    def stop(self) -> None:
        if self._session is not None:
            self._session.stop()

    def finish(self, ended: ProgramRun) -> None:
        """Diagnose what was trained, and write it down."""
        session = self._session
        if not is_first_rank():
            return
        if session is None:
            reason = self._failure or "it never imported torch"
            if ended.succeeded:
                ended.notes.append(f"nothing to diagnose: {self._program}: {reason}")
            return
        session.finish(reads_data=not isinstance(ended.error, KeyboardInterrupt))
        folders = self._folders
        for name in session.dropped:
            if folders is not None:
                folders.remove(name)
        for name, diagnosis in session.diagnoses.items():
            run = None if folders is None else folders.finish(name, diagnosis, ended.error)
            ended.trainings.append(WatchedTraining(name, diagnosis, run))
        ended.notes += session.notes(str(self._program))

    def _begin(self) -> None:
        """Begin to watch: torch has just been imported. Never raises."""
        try:
            from thalweg.adapters.script.run_folders import RunFolders
            from thalweg.adapters.script.session import Session
            from thalweg.adapters.script.torch_events import torch_events

            session = Session(self._new_history, say=self._say if is_first_rank() else None)
            if self._out is not None and is_first_rank():
                self._folders = RunFolders.of_program(
                    self._out, self._program, session.report_failure
                )
            self._events.enter_context(torch_events(session))
            self._session = session
        except Exception as error:  # such as a torch that is too old: the program still runs
            self._failure = f"{type(error).__name__}: {error}"

    def _new_history(self, name: str) -> "History":
        from thalweg.record import History

        return History() if self._folders is None else self._folders.new_history(name)
