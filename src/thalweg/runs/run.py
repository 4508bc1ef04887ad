"""A run on disk, and the errors of a run that fails or is interrupted."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg import diagnosis
from thalweg.diagnosis import Diagnosis
from thalweg.errors import RunError, TrainingError, shell_word
from thalweg.files import replace_file
from thalweg.paths import as_path, unwritable
from thalweg.record import History, RunReader
from thalweg.report import render_html
from thalweg.report.notebook_card import render_card

if TYPE_CHECKING:
    from torch import Tensor

REPORT = "report.html"  # in the folder of a run


@dataclass(frozen=True)
class Run:
    """A run on disk: its measurements, diagnosis, report and model."""

    path: Path
    val_predictions: "Tensor | None" = field(default=None, repr=False, compare=False)
    """Classes as int64 or values as float32, one a sample; None if another process trained."""

    def __post_init__(self) -> None:
        vars(self)["path"] = as_path(self.path, role="the run")

    @classmethod
    def of_this_process(
        cls, path: Path, diagnosis: Diagnosis, val_predictions: "Tensor | None"
    ) -> "Run":
        """The run that this process has trained, which need not be diagnosed again."""
        run = cls(path, val_predictions)
        vars(run)["diagnosis"] = diagnosis
        return run

    @cached_property
    def reader(self) -> RunReader:
        return RunReader(self.path)

    @property
    def history(self) -> History:
        return self.reader.history

    @property
    def metrics(self) -> Mapping[str, float]:
        """The final metrics of the best weights, such as "val_accuracy"; empty before the end."""
        metrics: Mapping[str, float] = self.reader.meta.get("metrics", {})
        return metrics

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """The diagnosis by the rules of today, however old the run."""
        return diagnosis.diagnose(self.history)

    def _repr_html_(self) -> str:
        """The verdict, the scores and the curves, for a cell of a notebook."""
        return render_card(self.reader, self.diagnosis)

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def report(self) -> Path:
        """Write `report.html` into the run and return its path.

        Raises: RunError where it cannot be written.
        """
        path = self.path / REPORT
        page = render_html(self.reader, self.diagnosis)
        try:
            replace_file(path, page)
        except OSError as error:
            other = f"thalweg report {shell_word(self.path)} --out FILE.html"
            raise unwritable(path, error, instead=other) from error
        return path

    def report_or_note(self) -> str:
        """Write the report; return a note where that fails, since all else of the run is safe."""
        try:
            self.report()
        except RunError as error:
            return f"no report could be written: {error.seen}; {error.fix}"
        return ""


class FailedRunError(TrainingError):
    """A run that failed. `path` is its folder, with everything up to the failure."""

    path: Path


class InterruptedRunError(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended a run; it is saved, and `thalweg train --resume PATH` resumes it."""

    def __init__(self, path: Path, exit_code: int) -> None:
        super().__init__(
            f"{path} was saved; thalweg train --resume {shell_word(path)} goes on with it"
        )
        self.path, self.exit_code = path, exit_code


class InterruptedLadderError(KeyboardInterrupt):
    """Ctrl-C ended a ladder; the finished rungs are in `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"stopped; the rungs that are done are in {path}")
        self.path, self.exit_code = path, 130
