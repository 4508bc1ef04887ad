"""`thalweg spectrum RUN`: the Hessian's eigenvalues at a run's weights, and a picture of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from thalweg.cli.output import print_json
from thalweg.cli.terminal import table
from thalweg.errors import printable

if TYPE_CHECKING:
    from thalweg.curvature import Spectrum


def spectrum(
    run: Path,
    /,
    *,
    top: int = 5,
    samples: int = 1024,
    batch_norm: Literal["train", "eval"] = "train",
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Show the curvature of the loss at a run's best weights, and draw it.

    Parameters
    ----------
    run: Path
        The folder of a finished run.
    top: int
        How many of the largest eigenvalues to find.
    samples: int
        Training samples to measure on.
    batch_norm: Literal["train", "eval"]
        Normalise by the batch, as in training, or by the running statistics.
    out: Path
        The picture, .svg or .png; RUN/spectrum.svg by default.
    json: bool
        Print JSON; draw only if --out is given.
    """
    from thalweg.api.geometry import run_spectrum
    from thalweg.curvature import draw_spectrum

    found = run_spectrum(run, samples=samples, top=top, batch_norm=batch_norm)
    path = out or (None if json else run / "spectrum.svg")
    if path:
        draw_spectrum(found, path)
    if json:
        print_json(**found.to_dict())
        return
    print(_as_text(found))
    print(printable(str(path)))


def _as_text(found: "Spectrum") -> str:
    band = 1e-4 * max(abs(found.top[0]), abs(found.bottom[0]))
    negative, zero, positive = found.density.shares(band)
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
