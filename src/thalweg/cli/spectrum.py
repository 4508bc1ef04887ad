"""`thalweg spectrum RUN`: show and draw the Hessian's eigenvalues at a run's weights."""

from typing import TYPE_CHECKING

from thalweg.cli.curvature_options import (
    AsJson,
    BatchNorm,
    Out,
    RunFolder,
    SampleCount,
    check_output,
    output_curvature,
)
from thalweg.cli.terminal import table
from thalweg.errors import printable
from thalweg.wording import POINTS, SHARPNESS

if TYPE_CHECKING:
    from thalweg.curvature import Spectrum
    from thalweg.curvature.spectrum import Shape


def spectrum(
    run: RunFolder,
    /,
    *,
    top: int = 5,
    samples: SampleCount = 1024,
    batch_norm: BatchNorm = "train",
    out: Out = None,
    json: AsJson = False,
) -> None:
    """Show the curvature of the loss at a run's best weights: minimum or saddle, sharp or flat.

    The run's folder gets spectrum.svg and spectrum.json, and its report shows them.

    Parameters
    ----------
    top: int
        Number of largest eigenvalues to compute.
    """
    from thalweg.runs.curvature import run_spectrum

    check_output("spectrum", run, out=out, json=json)
    hessian = run_spectrum(run, samples=samples, top=top, batch_norm=batch_norm)
    path = output_curvature(hessian, run, out=out, json=json)
    if not json:
        print(_text(hessian))
        print(printable(str(path)))


def _text(spectrum: "Spectrum") -> str:
    band, (negative, zero, positive) = spectrum.band, spectrum.shares
    trace = spectrum.trace
    rows = [
        *(
            (f"eigenvalue {i + 1}", f"{value:.4g}", f"± {error:.1g}")
            for i, (value, error) in enumerate(zip(spectrum.top, spectrum.top_errors, strict=True))
        ),
        ("smallest", f"{spectrum.most_negative:.4g}", f"± {spectrum.bottom_errors[0]:.1g}"),
        ("trace", f"{trace.value:.4g}", f"{trace.low:.4g} to {trace.high:.4g} (95 %)")
        if trace
        else ("trace", "", "not measured"),
        ("shares", f"{negative:.0%} below, {positive:.0%} above", f"{zero:.0%} within ±{band:.1g}"),
    ]
    basis = f"{spectrum.size:,} weights, {spectrum.samples:,} samples"
    if spectrum.batch_norm != "none":
        basis += f", batch norm in {spectrum.batch_norm} mode"
    text = f"{basis}\n{table(('what', 'value', 'error'), rows)}"
    return f"{text}\n\n{_shape_text(spectrum.shape)}" if spectrum.shape else text


def _shape_text(shape: "Shape") -> str:
    """The kind of point and its sharpness, each with the reason."""
    return (
        f"{POINTS[shape.kind]}: {shape.reason}\n"
        f"{SHARPNESS[shape.sharpness]}: the loss rises by {shape.rise:.2g}, from {shape.loss:.3g}, "
        "where the weights move by 1 % of their length in the sharpest direction"
    )
