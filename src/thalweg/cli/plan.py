"""`thalweg plan PATH`: time training steps in each precision on this machine."""

import os
import sys
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from thalweg.cli.output import print_json
from thalweg.cli.recipe_options import RECIPE, recipe_edits, takes_recipe_keys
from thalweg.cli.settings import gather_settings
from thalweg.cli.terminal import table
from thalweg.runs.progress_line import show_progress

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

    options = recipe_edits(recipe) | ({"data.path": path} if path else {})
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
    print(f"\n{ready.recipe.model.name}, batches of {ready.recipe.batch.size}: {benchmark.note}")


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
