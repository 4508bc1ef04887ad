"""`thalweg ladder PATH`: from the simplest model to the strongest, a line each as they finish."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.cli.output import print_json
from thalweg.cli.progress import painted
from thalweg.cli.terminal import is_terminal, styled
from thalweg.errors import printable

if TYPE_CHECKING:
    from thalweg.api import Progress
    from thalweg.record.ladder import Ladder, Rung

COLUMNS = (20, 11, 19, 8, 9)  # characters: rung, score, interval, time, weights


def ladder(
    path: str,
    /,
    *,
    minutes: float = 1.0,
    rungs: list[str] | None = None,
    k: int | None = None,
    penalty: float | None = None,
    epochs: int | None = None,
    target: str | None = None,
    seed: int = 0,
    device: str | None = None,
    devices: int | None = None,
    out: Path = Path("runs"),
    json: bool = False,
) -> int:
    """Climb from the simplest model to the strongest; say what that tells of the data.

    Parameters
    ----------
    path: str
        What `thalweg train` takes.
    minutes: float
        Time to climb for. A rung that would take longer is left out and says what it needs.
    rungs: list[str]
        Names of the rungs to climb, with commas between; by default all that fit the data.
    k: int
        Number of neighbours; by default by cross-validation inside the training split.
    penalty: float
        λ of ridge and the linear classifiers, on the mean loss; by default chosen likewise.
    epochs: int
        Passes of each network; by default as many as fit into the time.
    target: str
        The column of a table to predict.
    seed: int
        Of the split and the networks.
    device: str
        Such as cpu or cuda.
    devices: int
        Processes that train each network together.
    out: Path
        Folder that the climb's folder is made in.
    json: bool
        Print JSON at the end instead of the table.
    """
    from thalweg import api

    progress = api.Progress()
    names = [name for text in rungs or () for name in text.split(",") if name]
    climbing = api.ladder_steps(
        path,
        minutes=minutes,
        rungs=names,
        k=k,
        penalty=penalty,
        epochs=epochs,
        target=target,
        device=device,
        devices=devices,
        seed=seed,
        out=out,
        progress=progress,
    )
    try:
        found = _shown(climbing, progress, quiet=json)
    except api.InterruptedLadderError as stop:
        print(printable(str(stop)), file=sys.stderr)
        return stop.exit_code
    if json:
        print_json(**found.to_dict())
    else:
        print(_ending(found))
    return 0


def _shown(climbing: "Iterator[Ladder]", progress: "Progress", *, quiet: bool) -> "Ladder":
    """Each rung's line as soon as it is known; progress in between, on stderr."""
    found: Ladder | None = None
    while True:
        step = _next(climbing, progress)
        if step is None:
            assert found is not None, "a climb yields at least once"
            return found
        if not quiet:
            _print_news(found, step)
        found = step


def _next(climbing: "Iterator[Ladder]", progress: "Progress") -> "Ladder | None":
    """The next rung; meanwhile the progress, in a terminal: a log needs the rungs' lines alone."""
    if is_terminal(sys.stderr):
        with painted(progress, sys.stderr):
            step = next(climbing, None)
    else:
        step = next(climbing, None)
        for message in progress.messages:
            print(printable(message), file=sys.stderr)
    progress.messages.clear()  # said; the next painter would say them again
    return step


def _print_news(before: "Ladder | None", now: "Ladder") -> None:
    if before is None:
        names = ("rung", "validation", "95 % interval", "time", "weights", "chosen")
        print(styled(_line(names), "dim", sys.stdout), flush=True)
    for rung in now.rungs[len(before.rungs) if before else 0 :]:
        print(_line(_cells(now, rung)), flush=True)


def _cells(climb: "Ladder", rung: "Rung") -> tuple[str, ...]:
    from thalweg.report.ladder_picture import score_text
    from thalweg.wording import NARROW, duration, large

    low, high = (score_text(climb, value) for value in (rung.low, rung.high))
    cells = (
        rung.title,
        score_text(climb, rung.score),
        f"{low} to {high}",
        duration(rung.seconds),
        large(rung.parameters) if rung.parameters else "–",
        rung.chosen,
    )
    return tuple(printable(cell.replace(NARROW, " ")) for cell in cells)


def _line(cells: tuple[str, ...]) -> str:
    padded = [f"{cell:<{width}}" for cell, width in zip(cells, COLUMNS, strict=False)]
    return "  ".join([*padded, *cells[len(COLUMNS) :]]).rstrip()


def _ending(found: "Ladder") -> str:
    from thalweg.report.ladder_page import headline
    from thalweg.wording import NARROW

    left = [f"left out  {name}: {why}" for name, why in found.left_out.items()]
    parts = [
        "\n".join(left),
        found.advice,
        headline(found) + ".",
        f"page    {found.path / 'ladder.html'}\npicture {found.path / 'ladder.svg'}",
    ]
    kept = f"\n{NARROW}"
    return "\n" + "\n\n".join(printable(p, keep=kept) for p in parts if p).replace(NARROW, " ")
