"""`thalweg plan PATH`: time training steps in each precision on this machine."""

import os
import sys
from collections.abc import Sequence
from math import isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from thalweg.cli.output import print_json
from thalweg.cli.recipe_options import RECIPE, edits_with_path, takes_recipe_keys
from thalweg.cli.settings import gather_settings
from thalweg.cli.terminal import table
from thalweg.runs.progress_line import show_progress
from thalweg.wording import count, duration

if TYPE_CHECKING:
    from thalweg.planning.speed.benchmark import NumericsResult


@takes_recipe_keys
def plan(
    path: str | None = None,
    /,
    *,
    fresh: bool = False,
    json: bool = False,
    config: Annotated[Path | None, Parameter(group=RECIPE)] = None,
    **recipe: object,
) -> None:
    """Time training steps in each precision and memory order, and check them against float32.

    `thalweg train` does so itself for a long training, once for each model and batch size.

    Parameters
    ----------
    path: str
        Data, as `thalweg train` takes them.
    fresh: bool
        Measure again, even if this was measured before.
    json: bool
        Print JSON instead of a table.
    config: Path
        A TOML file with recipe keys, as below.
    """
    from thalweg import api
    from thalweg.planning.numerics import measure_numerics

    options = edits_with_path(recipe, path)
    settings = gather_settings(options, os.environ, config)
    progress = api.Progress()
    with show_progress(progress, sys.stderr):
        ready = api.plan(edits=settings.edits, progress=progress)
        progress.phase = "measuring"
        benchmark = measure_numerics(ready, always=True, fresh=fresh)
    if json:
        rows = list(map(_fields, benchmark.rows))
        print_json(chosen=str(benchmark.chosen), note=benchmark.note, rows=rows)
        return
    header = ("computed in", "ms a step", "loss off", "cosine", "")
    print(table(header, map(_cells, benchmark.rows)))
    chosen, facts = ready.recipe, ready.dataset.facts
    changes = ", ".join(f"{name} {value}" for name, value in chosen.model.changes.items())
    size = f" at {words}" if (words := ready.dataset.modality.size(facts)) else ""
    network = f"{chosen.model.name} ({changes})" if changes else chosen.model.name
    batch = f"batches of {chosen.batch.size} {ready.dataset.modality.noun}s{size}"
    time = duration(ready.steps * _step_seconds(benchmark.rows))
    print(f"\n{network}, {batch}: {benchmark.note}")
    print(f"{count(ready.steps, 'step')}, about {time} beside the validations")


def _step_seconds(rows: "Sequence[NumericsResult]") -> float:
    """Seconds of a step in the chosen setting; NaN where none was timed."""
    return next((row.seconds for row in rows if row.verdict == "chosen"), nan)


def _fields(row: "NumericsResult") -> dict[str, object]:
    fields = row._asdict()
    return {"setting": str(fields.pop("numerics")), **fields}


def _cells(row: "NumericsResult") -> tuple[str, ...]:
    return (
        str(row.numerics),
        _number(1000 * row.seconds, ".2f"),
        _number(row.loss_error, ".0e"),
        _number(row.cosine, ".4f"),
        row.verdict,
    )


def _number(value: float, form: str) -> str:
    return "–" if isnan(value) else format(value, form)
