"""Options and output that `thalweg spectrum` and `thalweg landscape` share."""

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
    Parameter(help="Normalise by batch statistics, as in training, or by running statistics."),
]
Out = Annotated[
    Path | None,
    Parameter(help="Write the picture to this .svg or .png file instead of the run."),
]
AsJson = Annotated[
    bool, Parameter(help="Print JSON; draw only with --out; save nothing in the run.")
]


def check_output(name: str, run: Path, *, out: Path | None, json: bool) -> None:
    """Check, before any work, that the picture can be written: to `out`, or into the run."""
    from thalweg.curvature.figures import check_picture

    if out is not None:
        check_picture(out)
    elif not json and run.is_dir():
        check_picture(run / f"{name}.svg")


def output_curvature(
    curvature: "Spectrum | Landscape", run: Path, *, out: Path | None, json: bool
) -> Path | None:
    """Print it as JSON, draw it at `out`, or save it in the run; return the picture's path."""
    from thalweg.curvature import draw
    from thalweg.runs.curvature import save_picture

    if json:
        print_json(**curvature.to_dict())
    if out is not None:
        return draw(curvature, out)
    return None if json else save_picture(curvature, run)
