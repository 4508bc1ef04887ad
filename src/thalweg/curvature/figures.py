"""Figures of landscapes and spectra, as PNG or SVG; an SVG follows the reader's dark mode."""

import os
from errno import EACCES
from io import StringIO
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.curvature.landscape import Landscape
from thalweg.curvature.spectrum import Spectrum
from thalweg.curvature.twice_differentiable import Normalisation
from thalweg.errors import UsageError
from thalweg.paths import unwritable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (4.8, 3.8)  # inches: small, so that the text stays legible on a phone
TITLE_WIDTH = 58  # characters
LEVELS = 18
PAPER, INK, LARGE, SMALL, FAINT = "#fdfdfb", "#1b1e23", "#bd5208", "#1f6cb0", "#8d95a1"
DARK_MODE = {PAPER: "#15171b", INK: "#e8e9eb", LARGE: "#f3a263", SMALL: "#72b4f0"}


def draw(measurement: Spectrum | Landscape, path: Path | str) -> Path:
    """Draw the measurement to a .svg or .png file."""
    if isinstance(measurement, Spectrum):
        return _save(spectrum_figure(measurement), Path(path))
    return _save(landscape_figure(measurement), Path(path))


def check_picture(path: Path) -> None:
    """Check that a figure can be written to the path, and write nothing.

    Raises: UsageError for another suffix than .svg or .png, for a folder, or for a place in a
    file; RunError where its folder takes no files.
    """
    if path.suffix not in (".svg", ".png"):
        raise UsageError(
            "a figure must be .svg or .png", seen=str(path), fix=f"{path.with_suffix('.svg')}"
        )
    if path.is_dir():
        raise UsageError(
            f"{path} is a folder", seen="a file is to be written", fix=f"{path / 'figure.svg'}"
        )
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise UsageError(
            f"{path} cannot be in a file",
            seen=f"{folder} is no folder",
            fix=f"{folder.with_name(path.name)}",
        )
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise unwritable(path, PermissionError(EACCES, os.strerror(EACCES)))


def as_svg(figure: "Figure") -> str:
    """The figure as SVG text that follows the reader's light or dark mode."""
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    names = {color: f"--c{number}" for number, color in enumerate(DARK_MODE)}
    svg = text.getvalue()
    for color, name in names.items():
        svg = svg.replace(color, f"var({name})")
    light = "".join(f"{name}:{color};" for color, name in names.items())
    dark = "".join(f"{names[color]}:{other};" for color, other in DARK_MODE.items())
    style = f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return svg.replace("<defs>", f"<style>{style}</style>\n <defs>", 1)


def landscape_figure(landscape: Landscape) -> "Figure":
    """Contours of log-spaced losses with the path over them, or a curve for one axis."""
    figure, axes = _empty_figure()
    if len(landscape.axes) == 1:
        _draw_curve(axes, landscape)
    else:
        figure.colorbar(_draw_contours(axes, landscape), ax=axes, label="loss", format="%.3g")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:.3g}")  # an exponent in the corner would push the title out
    if landscape.path is not None and len(landscape.axes) == 2:
        _draw_path(axes, landscape)
    _add_title(figure, axes, _landscape_title(landscape))
    return figure


def spectrum_figure(spectrum: Spectrum) -> "Figure":
    """Density of the eigenvalues on a log scale, with the extreme ones marked."""
    figure, axes = _empty_figure()
    density = spectrum.density
    low, high = float(density.nodes[0]), float(density.nodes[-1])
    reach = max(high - low, 1e-12)
    grid = np.linspace(low - 0.05 * reach, high + 0.05 * reach, 800)
    curve = density.smooth_density(grid, 0.006 * reach) * density.size
    axes.fill_between(grid, curve, 1e-12, color=FAINT, alpha=0.6, linewidth=0)
    axes.plot(grid, curve, color=INK, linewidth=1)
    for values, label in ((spectrum.top, "largest"), (spectrum.bottom, "smallest")):
        color = LARGE if label == "largest" else SMALL
        heights = np.interp(values, grid, curve)
        text = f"{label}: {', '.join(f'{v:.3g}' for v in values[:5])}".replace("-", "−")
        axes.plot(values, heights, "v", color=color, markersize=5, label=text)
    axes.axvline(0, color=INK, linewidth=0.6, linestyle=":")
    axes.set_yscale("log")
    axes.set_ylim(max(curve.max() * 1e-7, 1e-6), curve.max() * 4)
    axes.set_xlabel(f"eigenvalue of the {spectrum.matrix.replace('-', '–').title()} matrix")
    axes.set_ylabel("eigenvalues per unit")
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    _add_title(figure, axes, _spectrum_title(spectrum))
    return figure


def _empty_figure() -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure  # late: the import takes half a second

    figure = Figure(figsize=SIZE, layout="constrained", facecolor=PAPER)
    axes = figure.add_subplot(facecolor=PAPER)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _add_title(figure: "Figure", axes: "Axes", title: str) -> None:
    """Add the title, and colour ticks, frames and labels."""
    axes.set_title(_wrap(title), fontsize=8, color=INK)
    for each in figure.axes:  # the colour bar, too
        each.tick_params(which="both", labelsize=8, color=INK, labelcolor=INK)
        each.spines[:].set_edgecolor(INK)
        for label in (each.xaxis.label, each.yaxis.label):
            label.set(color=INK, fontsize=9)


def _wrap(title: str) -> str:
    """Break lines between the parts of the title; write true minus signs."""
    joined = " · ".join(part.replace(" ", "\u00a0") for part in title.split(" · "))
    return fill(joined, TITLE_WIDTH).replace("-", "−")


def _draw_contours(axes: "Axes", landscape: Landscape) -> Any:
    from matplotlib.colors import LogNorm, Normalize

    losses = np.ma.masked_invalid(landscape.losses)
    low, high = float(losses.min()), float(np.percentile(losses.compressed(), 97))
    positive = low > 0 and high / low > 3
    levels = np.geomspace(low, high, LEVELS) if positive else np.linspace(low, high, LEVELS)
    norm = LogNorm(low, high) if positive else Normalize(low, high)
    first, second = landscape.axes
    contours = axes.contourf(
        first, second, losses.T, levels=levels, norm=norm, cmap="viridis", extend="max"
    )
    axes.contour(first, second, losses.T, levels=levels, colors="white", linewidths=0.3)
    axes.plot(0, 0, marker="*", color=LARGE, markersize=11, markeredgecolor="white")
    axes.set_xlabel(landscape.names[0])
    axes.set_ylabel(landscape.names[1])
    return contours


def _draw_path(axes: "Axes", landscape: Landscape) -> None:
    assert landscape.path is not None
    x, y = landscape.path.T
    axes.plot(x, y, "-", color="white", linewidth=2.4)
    axes.plot(x, y, "o-", color=LARGE, linewidth=1.2, markersize=2.5)
    axes.annotate(
        "start", (x[0], y[0]), color=LARGE, fontsize=8, xytext=(4, 4), textcoords="offset points"
    )


def _draw_curve(axes: "Axes", landscape: Landscape) -> None:
    axes.plot(landscape.axes[0], landscape.losses, color=INK)
    axes.axvline(0, color=FAINT, linewidth=0.8, linestyle=":")
    axes.set_xlabel(landscape.names[0])
    axes.set_ylabel("loss")


def _landscape_title(landscape: Landscape) -> str:
    parts = [f"{landscape.samples:,} samples", *_batch_norm_text(landscape.batch_norm)]
    if landscape.explained is not None:
        parts.append(f"the plane explains {landscape.explained:.0%} of the path's variance")
    return " · ".join(parts)


def _spectrum_title(spectrum: Spectrum) -> str:
    parts = [f"{spectrum.size:,} weights", f"{spectrum.samples:,} samples"]
    parts += _batch_norm_text(spectrum.batch_norm)
    if spectrum.trace:
        half = (spectrum.trace.high - spectrum.trace.low) / 2
        parts.append(f"trace {spectrum.trace.value:.4g} ± {half:.2g}")
    return " · ".join(parts)


def _batch_norm_text(batch_norm: Normalisation) -> list[str]:
    return [] if batch_norm == "none" else [f"batch norm: {batch_norm}"]


def _save(figure: "Figure", path: Path) -> Path:
    check_picture(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".svg":
        path.write_text(as_svg(figure), encoding="utf-8")
    else:
        figure.savefig(path, dpi=150)
    return path
