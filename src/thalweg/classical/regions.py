"""Decision regions: a classifier's predictions over a plane, with ties in grey.

For experiments in two dimensions: no command uses it yet.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from thalweg.classical.checks import check_columns, check_count, check_vectors
from thalweg.errors import UsageError

UNDECIDED_COLOUR = "#d9d9d9"  # a tied vote: more data are needed there
MARGIN = 0.05  # of the points' extent, around them


class Regions(NamedTuple):
    """The prediction at each point of a grid, row by row from the lowest y up."""

    predictions: Int64[Tensor, "y x"]  # −1 where the classifier abstains
    extent: tuple[float, float, float, float]  # left, right, bottom, top

    @property
    def undecided(self) -> float:
        """The share of the plane that is tied."""
        return (self.predictions < 0).double().mean().item()


def decision_regions(
    predict: Callable[[Tensor], Tensor], points: Float[Tensor, "sample dim"], *, side: int = 200
) -> Regions:
    """Predict on a grid of `side` × `side` around these points.

    Raises: DataError, UsageError for points that do not lie in a plane.
    """
    check_vectors(points, "points")
    check_columns(points, dim=2, what="points")
    check_count(side, name="side", most=4096, of="points along each axis")
    low, high = points.amin(0).double(), points.amax(0).double()
    margin = MARGIN * (high - low).clamp_min(1e-12)
    low, high = low - margin, high + margin
    x, y = (torch.linspace(low[i].item(), high[i].item(), side) for i in (0, 1))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
    predictions = predict(grid.to(points)).reshape(side, side)
    extent = (low[0].item(), high[0].item(), low[1].item(), high[1].item())
    return Regions(predictions, extent)


def draw_regions(
    regions: Regions,
    points: Float[Tensor, "sample 2"],
    targets: Int64[Tensor, " sample"],
    *,
    path: Path,
) -> Path:
    """Draw the regions with the samples on them to a .svg or .png file; ties are grey."""
    if path.suffix not in (".svg", ".png"):
        raise UsageError(f"cannot draw a {path.suffix or path.name} file", fix=".svg or .png")
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, to_rgba
    from matplotlib.figure import Figure

    count = int(max(regions.predictions.max(), targets.max())) + 1
    colours = [colormaps["tab10"](index % 10) for index in range(count)]
    shades = ListedColormap([to_rgba(UNDECIDED_COLOUR), *(to_rgba(c, 0.35) for c in colours)])
    figure = Figure(figsize=(4.8, 4.8), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(
        (regions.predictions + 1).numpy(force=True),
        origin="lower",
        extent=regions.extent,
        aspect="auto",
        cmap=shades,
        vmin=0,
        vmax=count,
        interpolation="nearest",
    )
    x, y = points.T.numpy(force=True)
    axes.scatter(x, y, c=[colours[int(t)] for t in targets], s=14, edgecolors="white")
    axes.set_title(f"undecided: {regions.undecided:.1%} of the plane", fontsize=9)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path
