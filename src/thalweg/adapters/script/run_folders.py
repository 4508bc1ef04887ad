"""Record each training of a program in a run folder of its own, and report on it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from thalweg.diagnosis import Diagnosis
from thalweg.errors import ThalwegError
from thalweg.record import History, RunReader, RunWriter, claim_run_folder
from thalweg.record.environment import environment
from thalweg.runs.run import Run


@dataclass(slots=True)
class RunFolders:
    """The run folders of one program, below `parent`, by the name of the training."""

    parent: Path
    program: Path
    on_failure: Callable[[str, Exception], None]
    writers: dict[str, RunWriter]

    @classmethod
    def of_program(
        cls, parent: Path, program: Path, on_failure: Callable[[str, Exception], None]
    ) -> "RunFolders":
        """No folder yet: a program that trains nothing leaves none."""
        return cls(parent.absolute(), program, on_failure, {})

    def new_history(self, name: str) -> History:
        """A history that is also written to a new run folder; only to memory if that fails."""
        stem = f"{self.program.stem}-{name}" if self.writers else self.program.stem
        try:
            folder = claim_run_folder(self.parent, stem)
            writer = RunWriter(folder)
        except (ThalwegError, OSError) as error:
            self.on_failure("run folder", error)
            return History()
        self.writers[name] = writer
        facts = {"state": "running", "source": str(self.program), "model": name, "script": True}
        for key, value in (facts | {"environment": environment()}).items():
            writer.set(key, value)
        return History(writer.add)

    def remove(self, name: str) -> None:
        """Delete the run of a training that was not watched after all."""
        writer = self.writers.pop(name, None)
        if writer is not None:
            writer.close()
            rmtree(writer.path, ignore_errors=True)

    def finish(
        self, name: str, diagnosis: Diagnosis, error: BaseException | None
    ) -> RunReader | None:
        """Complete a run and write its report; None where nothing could be written."""
        writer = self.writers.get(name)
        if writer is None:
            return None
        state, message = _state(error)
        try:
            if message:
                writer.event(state, message)
            writer.findings(diagnosis.to_json())
            writer.set("state", state)
            writer.close()
            run = Run.of_this_process(writer.path, diagnosis, None)
            run.report()
            return run.reader
        except Exception as failure:
            self.on_failure("report", failure)
            return None


def _state(error: BaseException | None) -> tuple[str, str]:
    """The state of a run whose program ended so, and the reason. An exit is no failure."""
    if error is None or isinstance(error, SystemExit):
        return "finished", ""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "stopped by Ctrl-C"
    return "failed", f"{type(error).__name__}: {error}".rstrip(": ")
