"""`thalweg train PATH --folds 5`: a run for each split, and what they come to together."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from thalweg.cli.output import print_json
from thalweg.cli.progress import painted
from thalweg.cli.settings import Settings
from thalweg.cli.terminal import table
from thalweg.errors import UsageError, printable
from thalweg.record.run_folder import CROSS_VALIDATION

if TYPE_CHECKING:
    from thalweg.api import Progress
    from thalweg.runs.cross_validation import CrossValidation


class Splits(NamedTuple):
    """What was said of splits on the command line; None: nothing."""

    folds: int | None
    repeats: int | None
    resume: Path | None

    @property
    def asked_for(self) -> bool:
        resumed = self.resume is not None and (self.resume / CROSS_VALIDATION).is_file()
        return self.folds is not None or self.repeats is not None or resumed


def cross_validated(splits: Splits, settings: Settings, out: Path, *, json: bool) -> int:
    """Make the runs, or those that are missing; print each one's figures, and mean ± std."""
    from thalweg import api

    progress = api.Progress()
    try:
        with painted(progress, sys.stderr):
            found = _carried_out(splits, settings, out, progress=progress)
    except api.InterruptedRunError as stop:
        print(printable(str(stop)), file=sys.stderr)
        return stop.exit_code
    if json:
        scores = {n: {"mean": s.mean, "std": s.std} for n, s in found.scores.items()}
        runs = [{"path": str(run.path), "metrics": dict(run.metrics)} for run in found.runs]
        print_json(path=str(found.path), metric=found.metric, scores=scores, runs=runs)
    else:
        print(_text(found))
    return 0


def _carried_out(
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
            fix=f"thalweg train --resume {splits.resume}",
        )
    return api.resume_cross_validation(splits.resume, progress=progress)


def _text(found: "CrossValidation") -> str:
    names = list(found.scores)
    rows = [(run.path.name, *(f"{run.metrics[name]:.4f}" for name in names)) for run in found.runs]
    rows.append(("mean ± std", *(f"{s.mean:.4f} ± {s.std:.4f}" for s in found.scores.values())))
    varied = "only the seed differs: the data bring a split" if found.one_split else "splits"
    return (
        f"{table(('run', *names), rows)}\n\n"
        f"{found.metric} {found.score.mean:.4f} ± {found.score.std:.4f} "
        f"(mean ± std of {len(found.runs)} {'runs; ' if found.one_split else ''}{varied})\n"
        f"runs   {printable(str(found.path))}"
    )
