"""`thalweg runs [DIR]`: list the runs in a folder, without torch."""

from datetime import UTC, datetime
from math import isnan
from pathlib import Path

from thalweg.cli.output import print_json
from thalweg.cli.terminal import table
from thalweg.record import RunSummary, list_runs

_HEADER = ("run", "state", "started", "model", "steps", "result", "data")


def runs(folder: Path = Path("runs"), /, *, json: bool = False) -> None:
    """List the runs in a folder, the newest last; the runs of folds and ladders below these.

    Parameters
    ----------
    folder: Path
        The folder with the runs.
    json: bool
        Print JSON instead of a table.
    """
    summaries = list_runs(folder)
    if json:
        print_json(runs=[run._asdict() | {"path": str(run.path)} for run in summaries])
    elif summaries:
        print(table(_HEADER, map(_row, summaries)))
    else:
        print(f"no run in {folder}")


def _row(run: RunSummary) -> tuple[object, ...]:
    started = datetime.fromtimestamp(run.started, UTC).astimezone()
    result = "" if isnan(run.value) else f"{run.metric} {run.value:.4g}"
    result += "" if isnan(run.spread) else f" ± {run.spread:.2g}"
    time = f"{started:%Y-%m-%d %H:%M}"
    return run.path, run.state, time, run.model, run.steps, result, run.source
