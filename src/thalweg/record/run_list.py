"""List the runs of a folder, those of cross-validations and ladders under the name of these."""

from collections.abc import Callable, Iterator
from math import nan
from pathlib import Path
from typing import Any

from thalweg.errors import NoRunError, RunError
from thalweg.files import read_json_object
from thalweg.record.ladder import LADDER, read_ladder
from thalweg.record.rows import RunSummary
from thalweg.record.run_folder import CROSS_VALIDATION, is_run
from thalweg.record.run_reader import RunReader
from thalweg.record.schema import DATABASE


def list_runs(parent: Path) -> list[RunSummary]:
    """The runs in a folder, oldest first; a cross-validation or a ladder before its own runs.

    A run that cannot be read is listed as unreadable.
    """
    try:
        paths = list(parent.iterdir())
    except OSError as error:
        raise NoRunError(
            f"{parent} cannot be listed",
            seen=str(error),
            fix="name a folder of runs, such as runs",
        ) from error
    blocks = [block for path in paths if (block := list(_block(path)))]
    blocks.sort(key=lambda block: (block[0].started, block[0].path.name))
    return [summary for block in blocks for summary in block]


def _block(path: Path) -> Iterator[RunSummary]:
    """A run alone; a cross-validation or a ladder with its runs; nothing for another folder."""
    if is_run(path):
        yield _summary(path)
        return
    if (path / DATABASE).exists():  # a folder or a pipe, which would be waited for
        yield _unreadable(path)
        return
    group: Callable[[Path, list[RunSummary]], RunSummary]
    if (path / CROSS_VALIDATION).is_file():
        group = _folds
    elif (path / LADDER).is_file():
        group = _ladder
    else:
        return
    members = sorted(
        (_summary(child) for child in path.iterdir() if is_run(child)),
        key=lambda run: (run.started, run.path.name),
    )
    try:
        yield group(path, members)
    except (RunError, OSError, ValueError, KeyError, TypeError, AttributeError):
        yield _unreadable(path)
    yield from members


def _folds(path: Path, members: list[RunSummary]) -> RunSummary:
    """A cross-validation: mean and deviation over its runs."""
    content = read_json_object(path / CROSS_VALIDATION)
    metric = str(content.get("headline_metric", ""))
    score: dict[str, Any] = content.get("scores", {}).get(metric, {})
    planned = max(1, int(content["folds"])) * int(content["repeats"])
    finished = sum(run.state == "finished" for run in members)
    states = {run.state for run in members}
    stopped = next((s for s in ("running", "failed", "died") if s in states), "interrupted")
    first = members[0] if members else _unreadable(path)
    return RunSummary(
        path=path,
        state="finished" if finished >= planned else stopped,
        source=first.source,
        model=f"{first.model}, {finished} of {planned} runs",
        metric=metric,
        value=_number(score.get("mean")),
        steps=sum(run.steps for run in members),
        started=first.started,
        kind="folds",
        spread=_number(score.get("std")),
    )


def _ladder(path: Path, members: list[RunSummary]) -> RunSummary:
    """A ladder: its best rung."""
    ladder = read_ladder(path)
    best = ladder[ladder.best] if ladder.best else None
    return RunSummary(
        path=path,
        state=ladder.state,
        source=str(ladder.source),
        model=f"{best.title}, best of {len(ladder.rungs)}" if best else "",
        metric=f"val_{ladder.metric}" if best else "",
        value=best.score if best else nan,
        steps=sum(run.steps for run in members),
        started=min((run.started for run in members), default=(path / LADDER).stat().st_mtime),
        kind="ladder",
    )


def _summary(path: Path) -> RunSummary:
    try:
        return RunReader(path).summary()
    except RunError:
        return _unreadable(path)


def _unreadable(path: Path) -> RunSummary:
    started = path.stat().st_mtime
    return RunSummary(path, "unreadable", "", "", "", nan, 0, started)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else nan
