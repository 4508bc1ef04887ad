"""`thalweg landscape RUN`: a picture of the loss around a run's weights."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from thalweg.cli.output import print_json
from thalweg.errors import printable


def landscape(
    run: Path,
    /,
    *,
    directions: Literal["random", "eigen", "principal"] = "random",
    dimensions: Literal[1, 2] = 2,
    to: Annotated[Path | None, Parameter(name="--to")] = None,
    samples: int = 256,
    points: int = 25,
    radius: float = 1.0,
    batch_norm: Literal["train", "eval"] = "train",
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Draw the loss around a run's best weights, or on the way to another run's.

    Parameters
    ----------
    run: Path
        The folder of a finished run.
    directions: Literal["random", "eigen", "principal"]
        Random filter-normalised, of largest curvature, or along the path of the checkpoints.
    dimensions: Literal[1, 2]
        A curve or a map.
    to: Path
        Another run of the same model: draw the straight line to it.
    samples: int
        Training samples to measure on.
    points: int
        Places along each direction.
    radius: float
        How far to look; 1 changes each filter by its own length.
    batch_norm: Literal["train", "eval"]
        Normalise by the batch, as in training, or by the running statistics.
    out: Path
        The picture, .svg or .png; RUN/landscape.svg by default.
    json: bool
        Print the losses as JSON; draw only if --out is given.
    """
    from thalweg.api.geometry import run_landscape
    from thalweg.curvature import draw_landscape

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
    path = out or (None if json else run / "landscape.svg")
    if path:
        draw_landscape(found, path)
    if json:
        print_json(
            axes=[axis.tolist() for axis in found.axes],
            directions=list(found.names),
            losses=found.losses.tolist(),
            path=None if found.path is None else found.path.tolist(),
            samples=found.samples,
            batch_norm=found.batch_norm,
        )
        return
    print(printable(str(path)))
