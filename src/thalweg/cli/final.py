"""`thalweg final RUN`: the test split, opened once the work is done."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.cli.output import print_json
from thalweg.cli.progress import painted
from thalweg.cli.terminal import table

if TYPE_CHECKING:
    from thalweg.runs.final_score import FinalScore


def final(run: Path, /, *, json: bool = False) -> None:
    """Open the test split, hidden until now: score a run on it, and count how often that was done.

    Parameters
    ----------
    run: Path
        The folder of a finished run.
    json: bool
        Print JSON instead of text.
    """
    from thalweg import api

    progress = api.Progress()
    with painted(progress, sys.stderr):
        found = api.final(run, progress=progress)
    if json:
        print_json(
            run=str(run),
            metrics=dict(found.metrics),
            samples=found.samples,
            uses=found.uses,
            time=found.time,
            repeated=found.repeated,
        )
        return
    print(_text(found))


def _text(found: "FinalScore") -> str:
    from thalweg.statistics import wilson_interval
    from thalweg.wording import NARROW, percent, times

    rows = [(name, f"{value:.4f}") for name, value in found.metrics.items()]
    accuracy = found.metrics.get("test_accuracy")
    if accuracy is not None:
        low, high = wilson_interval(round(accuracy * found.samples), found.samples)
        rows.append(("95 % interval", f"{percent(low)} to {percent(high)}".replace(NARROW, " ")))
    rows.append(("samples", f"{found.samples:,}"))
    when = datetime.fromtimestamp(found.time, UTC).astimezone()
    rows.append(("opened", f"{when:%Y-%m-%d %H:%M}" + ", as before" * found.repeated))
    said = f"The test split has now been used {times(found.uses)} by the runs of this folder."
    if found.uses > 1:
        said += " A choice made by its figures makes them too good: compare on validation."
    return f"{table(('test split', ''), rows)}\n\n{said}"
