"""`thalweg spectrum RUN`: the Hessian's eigenvalues at a run's weights, and a picture of them."""

from typing import TYPE_CHECKING

from thalweg.cli.curvature_options import AsJson, BatchNorm, Out, RunFolder, SampleCount, deliver
from thalweg.cli.terminal import table
from thalweg.errors import printable

if TYPE_CHECKING:
    from thalweg.curvature import Spectrum


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
    """Show the curvature of the loss at a run's best weights, and draw it.

    The picture and its numbers stay in the run, as spectrum.svg and spectrum.json, and its report
    shows them.

    Parameters
    ----------
    top: int
        How many of the largest eigenvalues to find.
    """
    from thalweg.runs.curvature import run_spectrum

    found = run_spectrum(run, samples=samples, top=top, batch_norm=batch_norm)
    path = deliver(found, run, out=out, json=json)
    if not json:
        print(_as_text(found))
        print(printable(str(path)))


def _as_text(found: "Spectrum") -> str:
    band, (negative, zero, positive) = found.band, found.shares
    trace = found.trace
    rows = [
        *(
            (f"eigenvalue {i + 1}", f"{value:.4g}", f"± {error:.1g}")
            for i, (value, error) in enumerate(zip(found.top, found.top_errors, strict=True))
        ),
        ("smallest", f"{found.most_negative:.4g}", f"± {found.bottom_errors[0]:.1g}"),
        ("trace", f"{trace.value:.4g}", f"{trace.low:.4g} to {trace.high:.4g} (95 %)")
        if trace
        else ("trace", "", "not asked for"),
        ("shares", f"{negative:.0%} below, {positive:.0%} above", f"{zero:.0%} within ±{band:.1g}"),
    ]
    about = f"{found.size:,} weights, {found.samples:,} samples"
    if found.batch_norm != "none":
        about += f", batch norm in {found.batch_norm} mode"
    return f"{about}\n{table(('what', 'value', 'error'), rows)}"
