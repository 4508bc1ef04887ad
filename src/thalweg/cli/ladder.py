"""`thalweg ladder PATH`: train models from the simplest to the strongest; print a line for each."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.cli.output import print_json
from thalweg.cli.terminal import is_terminal, styled
from thalweg.errors import printable
from thalweg.runs.progress_line import show_progress

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
    task: str | None = None,
    seed: int = 0,
    device: str | None = None,
    devices: int | None = None,
    out: Path = Path("runs"),
    json: bool = False,
) -> int:
    """Train models from the simplest to the strongest; advise which one to keep.

    Parameters
    ----------
    path: str
        Data, as `thalweg train` takes them.
    minutes: float
        Time limit of the ladder. A rung that would take longer is skipped, and says what it needs.
    rungs: list[str]
        Names of the rungs, separated by commas; by default all that fit the data.
    k: int
        Number of neighbours; by default chosen by cross-validation inside the training split.
    penalty: float
        λ of ridge and the linear classifiers, on the mean loss; by default chosen likewise.
    epochs: int
        Passes of each network over the training split; by default as many as fit into the time.
    target: str
        Column of a table to predict.
    task: str
        Such as classification or regression; by default as the targets suggest.
    seed: int
        Seed of the split and of the networks.
    device: str
        Such as cpu or cuda.
    devices: int
        Processes that train each network together.
    out: Path
        Folder in which the ladder's own folder is created.
    json: bool
        Print JSON at the end instead of the table.
    """
    from thalweg import api

    progress = api.Progress()
    names = [name for text in rungs or () for name in text.split(",") if name]
    steps = api.ladder_steps(
        path,
        minutes=minutes,
        rungs=names,
        k=k,
        penalty=penalty,
        epochs=epochs,
        target=target,
        task=task,
        device=device,
        devices=devices,
        seed=seed,
        out=out,
        progress=progress,
    )
    try:
        finished = _print_rungs(steps, progress, is_silent=json)
    except api.InterruptedLadderError as stop:
        print(printable(str(stop)), file=sys.stderr)
        return stop.exit_code
    if json:
        print_json(**finished.to_dict())
    else:
        print(_summary(finished))
    return 0


def _print_rungs(steps: "Iterator[Ladder]", progress: "Progress", *, is_silent: bool) -> "Ladder":
    """Print each rung when it is finished; return the last step, with all rungs."""
    last: Ladder | None = None
    while step := _next_step(steps, progress):
        if not is_silent:
            _print_new_rungs(last, step)
        last = step
    assert last is not None, "a ladder yields at least once"
    return last


def _next_step(steps: "Iterator[Ladder]", progress: "Progress") -> "Ladder | None":
    """Wait for the next rung; show the progress on a terminal only, messages also in a log."""
    if is_terminal(sys.stderr):
        with show_progress(progress, sys.stderr):
            step = next(steps, None)
    else:
        step = next(steps, None)
        for message in progress.messages:
            print(printable(message), file=sys.stderr)
    progress.messages.clear()  # or the next step would print them again
    return step


def _print_new_rungs(before: "Ladder | None", now: "Ladder") -> None:
    if before is None:
        names = ("rung", "validation", "95 % interval", "time", "weights", "chosen")
        print(styled(_line(names), "dim", sys.stdout), flush=True)
    for rung in now.rungs[len(before.rungs) if before else 0 :]:
        print(_line(_cells(now, rung)), flush=True)


def _cells(ladder: "Ladder", rung: "Rung") -> tuple[str, ...]:
    from thalweg.report.ladder_picture import score_text
    from thalweg.wording import NARROW, duration, large

    low, high = (score_text(ladder, value) for value in (rung.low, rung.high))
    cells = (
        rung.title,
        score_text(ladder, rung.score),
        f"{low} to {high}",
        duration(rung.seconds),
        large(rung.parameters) if rung.parameters else "–",
        rung.chosen,
    )
    return tuple(printable(cell.replace(NARROW, " ")) for cell in cells)


def _line(cells: tuple[str, ...]) -> str:
    padded = [f"{cell:<{width}}" for cell, width in zip(cells, COLUMNS, strict=False)]
    return "  ".join([*padded, *cells[len(COLUMNS) :]]).rstrip()


def _summary(ladder: "Ladder") -> str:
    from thalweg.report.ladder_page import headline, untried_text
    from thalweg.wording import NARROW

    skipped = [f"left out  {name}: {reason}" for name, reason in ladder.left_out.items()]
    paragraphs = [
        "\n".join(skipped),
        ladder.advice,
        untried_text(ladder),
        headline(ladder) + ".",
        f"page    {ladder.path / 'ladder.html'}\npicture {ladder.path / 'ladder.svg'}",
    ]
    breaks = f"\n{NARROW}"
    return "\n" + "\n\n".join(printable(p, keep=breaks) for p in paragraphs if p).replace(
        NARROW, " "
    )
