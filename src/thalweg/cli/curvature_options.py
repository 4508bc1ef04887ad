"""What `thalweg spectrum` and `thalweg landscape` have in common: options, and where results go."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from thalweg.cli.output import print_json

if TYPE_CHECKING:
    from thalweg.curvature import Landscape, Spectrum

RunFolder = Annotated[Path, Parameter(help="The folder of a finished run.")]
SampleCount = Annotated[int, Parameter(help="Training samples to measure on.")]
BatchNorm = Annotated[
    Literal["train", "eval"],
    Parameter(help="Normalise by the batch, as in training, or by the running statistics."),
]
Out = Annotated[
    Path | None,
    Parameter(help="A picture to write, .svg or .png, in place of the one kept in the run."),
]
AsJson = Annotated[
    bool, Parameter(help="Print JSON; draw only if --out is given; keep nothing in the run.")
]


def deliver(
    found: "Spectrum | Landscape", run: Path, *, out: Path | None, json: bool
) -> Path | None:
    """Keep it in the run, or draw it elsewhere, or print it as JSON; the picture's path."""
    from thalweg.curvature import draw
    from thalweg.runs.curvature import keep

    if json:
        print_json(**found.to_dict())
    if out:
        return draw(found, out)
    return None if json else keep(found, run)
