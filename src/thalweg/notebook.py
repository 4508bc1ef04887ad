"""HTML for a cell of a notebook: small, without a script, and legible in light and dark."""

from collections.abc import Iterable, Sequence

from thalweg.wording import markup

COLORS = {"error": "#c0392b", "warning": "#b9770e", "good": "#239b56", "plain": "inherit"}
WIDTH, HEIGHT = 180, 36  # px of a curve
MOST_POINTS = 180  # of a curve
LARGEST = 1e300  # of a value in a curve


def title(text: str, tone: str = "plain") -> str:
    """A line in bold, in the colour of its tone: error, warning, good or plain."""
    color = COLORS.get(tone, COLORS["plain"])
    return f'<div style="font-weight:600;color:{color}">{markup(text)}</div>'


def paragraph(text: str) -> str:
    """A paragraph of at most 80 characters a line."""
    return f'<div style="max-width:80ch">{markup(text)}</div>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are HTML already; the header's are not."""
    left = 'style="text-align:left"'
    head = "".join(f"<th {left}>{markup(name)}</th>" for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td {left}>{cell}</td>" for cell in row) + "</tr>" for row in rows
    )
    head = f"<thead><tr>{head}</tr></thead>" if header else ""
    return f"<table>{head}<tbody>{body}</tbody></table>"


def details(summary: str, body: str) -> str:
    """A body, HTML already, that opens at a click."""
    return f"<details><summary>{markup(summary)}</summary>{body}</details>"


def curve(values: Sequence[float]) -> str:
    """The finite values as a line, in an SVG; "" where all are equal."""
    every = max(1, -(-len(values) // MOST_POINTS))
    chosen = values[::every]
    finite = [value for value in chosen if abs(value) <= LARGEST]  # their span is finite
    low, span = min(finite, default=0.0), max(finite, default=0.0) - min(finite, default=0.0)
    if not span:
        return ""
    across = (WIDTH - 4) / max(1, len(chosen) - 1)
    points = " ".join(
        f"{2 + across * place:.1f},{2 + (HEIGHT - 4) * (1 - (value - low) / span):.1f}"
        for place, value in enumerate(chosen)
        if abs(value) <= LARGEST
    )
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
    )


def share_bar(share: float) -> str:
    """A share from 0 to 1 as a bar, to stand beside its figure."""
    width = 100 * min(max(share, 0.0), 1.0) if share == share else 0.0
    return (
        '<svg width="100" height="8" viewBox="0 0 100 8">'
        '<rect width="100" height="8" fill="currentColor" opacity="0.15"/>'
        f'<rect width="{width:.1f}" height="8" fill="currentColor" opacity="0.7"/></svg>'
    )
