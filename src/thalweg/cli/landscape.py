"""`thalweg landscape RUN`: draw the loss around a run's weights."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from thalweg.cli.curvature_options import (
    AsJson,
    BatchNorm,
    Out,
    RunFolder,
    SampleCount,
    check_output,
    output_curvature,
)
from thalweg.errors import printable


def landscape(
    run: RunFolder,
    /,
    *,
    directions: Literal["random", "eigen", "principal"] = "random",
    dimensions: Literal[1, 2] = 2,
    to: Annotated[Path | None, Parameter(name="--to")] = None,
    samples: SampleCount = 256,
    points: int = 25,
    radius: float = 1.0,
    batch_norm: BatchNorm = "train",
    out: Out = None,
    json: AsJson = False,
) -> None:
    """Draw the loss around a run's best weights, or on the line to another run's.

    The run's folder gets landscape.svg and landscape.json, and its report shows them.

    Parameters
    ----------
    directions: Literal["random", "eigen", "principal"]
        Random and filter-normalised, of largest curvature (eigen), or along the path of the
        checkpoints (principal).
    dimensions: Literal[1, 2]
        1 draws a curve, 2 a map.
    to: Path
        Another run of the same model: draw the loss on the straight line to its weights.
    points: int
        Points along each direction.
    radius: float
        Length of the direction; 1 changes each filter by its own norm.
    """
    from thalweg.runs.curvature import run_landscape

    check_output("landscape", run, out=out, json=json)
    surface = run_landscape(
        run,
        directions=directions,
        dimensions=dimensions,
        samples=samples,
        points=points,
        radius=radius,
        batch_norm=batch_norm,
        other=to,
    )
    path = output_curvature(surface, run, out=out, json=json)
    if not json:
        print(printable(str(path)))
