"""`thalweg final RUN`: score a run on the test split, once the work is done."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.cli.output import print_json
from thalweg.cli.terminal import table
from thalweg.runs.progress_line import show_progress

if TYPE_CHECKING:
    from thalweg.runs.final_score import FinalScore


def final(run: Path, /, *, json: bool = False) -> None:
    """Score a run on the test split, hidden until then, and count how often that was done.

    Parameters
    ----------
    run: Path
        The folder of a finished run.
    json: bool
        Print JSON instead of text.
    """
    from thalweg import api

    progress = api.Progress()
    with show_progress(progress, sys.stderr):
        score = api.final(run, progress=progress)
    if json:
        print_json(
            run=str(run),
            metrics=dict(score.metrics),
            samples=score.samples,
            uses=score.uses,
            time=score.time,
            repeated=score.repeated,
        )
        return
    print(_text(score))


def _text(score: "FinalScore") -> str:
    from thalweg.statistics import wilson_interval
    from thalweg.wording import NARROW, percent, times

    rows = [(name, f"{value:.4f}") for name, value in score.metrics.items()]
    accuracy = score.metrics.get("test_accuracy")
    if accuracy is not None:
        low, high = wilson_interval(round(accuracy * score.samples), score.samples)
        rows.append(("95 % interval", f"{percent(low)} to {percent(high)}".replace(NARROW, " ")))
    rows.append(("samples", f"{score.samples:,}"))
    when = datetime.fromtimestamp(score.time, UTC).astimezone()
    rows.append(("opened", f"{when:%Y-%m-%d %H:%M}" + ", as before" * score.repeated))
    note = f"The test split has now been used {times(score.uses)} by the runs of this folder."
    if score.uses > 1:
        note += " Choosing by its scores makes them too good: compare on the validation split."
    return f"{table(('test split', ''), rows)}\n\n{note}"
