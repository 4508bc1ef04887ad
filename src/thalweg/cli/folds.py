"""`thalweg train PATH --folds 5`: train once for each fold, and print mean and deviation."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from thalweg.cli.output import print_json
from thalweg.cli.settings import Settings
from thalweg.cli.terminal import table
from thalweg.errors import UsageError, printable, shell_word
from thalweg.record.run_folder import CROSS_VALIDATION
from thalweg.runs.progress_line import show_progress

if TYPE_CHECKING:
    from thalweg.api import Progress
    from thalweg.runs.cross_validation import CrossValidation


class Splits(NamedTuple):
    """The options --folds, --repeats and --resume; None where not given."""

    folds: int | None
    repeats: int | None
    resume: Path | None

    @property
    def are_several(self) -> bool:
        """True if the options ask for a cross-validation, or for one to be resumed."""
        is_resumed = self.resume is not None and (self.resume / CROSS_VALIDATION).is_file()
        return self.folds is not None or self.repeats is not None or is_resumed


def cross_validate(splits: Splits, settings: Settings, out: Path, *, json: bool) -> int:
    """Train the runs, or those that are missing; print their scores, and mean ± std."""
    from thalweg import api

    progress = api.Progress()
    try:
        with show_progress(progress, sys.stderr):
            result = _start_or_resume(splits, settings, out, progress=progress)
    except api.InterruptedRunError as stop:
        print(printable(str(stop)), file=sys.stderr)
        return stop.exit_code
    if json:
        scores = {n: {"mean": s.mean, "std": s.std} for n, s in result.scores.items()}
        runs = [{"path": str(run.path), "metrics": dict(run.metrics)} for run in result.runs]
        print_json(path=str(result.path), metric=result.metric, scores=scores, runs=runs)
    else:
        print(_text(result))
    return 0


def _start_or_resume(
    splits: Splits, settings: Settings, out: Path, *, progress: "Progress"
) -> "CrossValidation":
    from thalweg import api

    if splits.resume is None:
        return api.cross_validate(
            edits=settings.edits,
            folds=splits.folds or 0,
            repeats=1 if splits.repeats is None else splits.repeats,
            out=out,
            progress=progress,
        )
    if splits.folds is not None or splits.repeats is not None or settings.edits:
        raise UsageError(
            f"{splits.resume} cannot be resumed with other settings",
            fix=f"thalweg train --resume {shell_word(splits.resume)}",
        )
    return api.resume_cross_validation(splits.resume, progress=progress)


def _text(result: "CrossValidation") -> str:
    names = list(result.scores)
    rows = [(run.path.name, *(f"{run.metrics[name]:.4f}" for name in names)) for run in result.runs]
    rows.append(("mean ± std", *(f"{s.mean:.4f} ± {s.std:.4f}" for s in result.scores.values())))
    difference = "only the seed differs: the data bring a split" if result.one_split else "splits"
    return (
        f"{table(('run', *names), rows)}\n\n"
        f"{result.metric} {result.score.mean:.4f} ± {result.score.std:.4f} "
        f"(mean ± std of {len(result.runs)} {'runs; ' if result.one_split else ''}{difference})\n"
        f"runs   {printable(str(result.path))}"
    )
