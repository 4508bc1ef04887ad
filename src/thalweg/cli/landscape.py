"""`thalweg landscape RUN`: a picture of the loss around a run's weights."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from thalweg.cli.curvature_options import AsJson, BatchNorm, Out, RunFolder, SampleCount, deliver
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
    """Draw the loss around a run's best weights, or on the way to another run's.

    The picture and its numbers stay in the run, as landscape.svg and landscape.json, and its
    report shows them.

    Parameters
    ----------
    directions: Literal["random", "eigen", "principal"]
        Random filter-normalised, of largest curvature, or along the path of the checkpoints.
    dimensions: Literal[1, 2]
        A curve or a map.
    to: Path
        Another run of the same model: draw the straight line to it.
    points: int
        Places along each direction.
    radius: float
        How far to look; 1 changes each filter by its own length.
    """
    from thalweg.runs.curvature import run_landscape

    found = run_landscape(
        run,
        directions=directions,
        dimensions=dimensions,
        samples=samples,
        points=points,
        radius=radius,
        batch_norm=batch_norm,
        other=to,
    )
    path = deliver(found, run, out=out, json=json)
    if not json:
        print(printable(str(path)))
