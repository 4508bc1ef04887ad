"""`thalweg plan PATH`: how a training's steps are computed fastest on this machine."""

import os
import sys
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from thalweg.cli.output import print_json
from thalweg.cli.progress import painted
from thalweg.cli.recipe_options import RECIPE, recipe_edits, takes_recipe_keys
from thalweg.cli.settings import gather
from thalweg.cli.terminal import table

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
    """Time a training's steps in each precision and memory order, and check them against float32.

    `thalweg train` does the same by itself, once for each model and batch, where it pays.

    Parameters
    ----------
    path: str
        What `thalweg train` takes.
    fresh: bool
        Measure again, though it is known.
    json: bool
        Print JSON instead of a table.
    config: Path
        A TOML file with any of the keys below.
    """
    from thalweg import api
    from thalweg.planning.numerics import measure_numerics

    options = recipe_edits(recipe) | ({"data.path": path} if path else {})
    settings = gather(options, os.environ, config)
    progress = api.Progress()
    with painted(progress, sys.stderr):
        chosen = api.plan(edits=settings.edits, progress=progress)
        progress.phase = "measuring"
        found = measure_numerics(chosen, always=True, fresh=fresh)
    if json:
        rows = [row._asdict() | {"numerics": str(row.numerics)} for row in found.rows]
        print_json(chosen=str(found.chosen), note=found.note, rows=rows)
        return
    print(table(("computed in", "ms a step", "loss off", "cosine", ""), map(_cells, found.rows)))
    print(f"\n{chosen.recipe.model.name}, batches of {chosen.recipe.batch.size}: {found.note}")


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
