"""A ladder as one picture: each rung's score with its interval, and the seconds that it took."""

from collections.abc import Iterator
from math import inf, isfinite

from thalweg.record.ladder import Ladder, Rung
from thalweg.report.axis import CHARACTER, Axis, axis
from thalweg.wording import duration, figure, markup, percent

WIDTH = 780.0  # pixels
ROW, TOP, FOOT = 30.0, 34.0, 30.0
LABEL_GAP = 6.0  # between two labels of an axis
NAMES, SCORES, GAP, SECONDS = 168.0, 330.0, 74.0, 120.0

STYLE = """
.ladder { --paper: #fdfdfb; --ink: #1b1e23; --soft: #5b616b; --grid: #ebebe5; --hue: #1f6cb0;
  --strong: #bd5208; }
@media (prefers-color-scheme: dark) { .ladder { --paper: #15171b; --ink: #e8e9eb; --soft: #a2a8b3;
  --grid: #262a30; --hue: #72b4f0; --strong: #f3a263; } }
.ladder .paper { fill: var(--paper); }
.ladder text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums; fill: var(--soft); }
.ladder .rung { fill: var(--ink); } .ladder .stop text.rung { font-weight: 650; }
.ladder .end { text-anchor: end; } .ladder .mid { text-anchor: middle; }
.ladder .grid { stroke: var(--grid); }
.ladder .whisker { stroke: var(--hue); stroke-width: 2; }
.ladder circle { fill: var(--hue); }
.ladder .stop .whisker { stroke: var(--strong); } .ladder .stop circle { fill: var(--strong); }
.ladder .took { fill: var(--soft); }
.advice { margin-top: .75rem; max-width: 46rem; }
"""


def ladder_svg(ladder: Ladder, *, standalone: bool = True) -> str:
    """The picture as SVG, in the reader's light or dark scheme; `standalone` with its own style."""
    height = TOP + ROW * len(ladder.rungs) + FOOT
    scores, seconds = _axes(ladder)
    bottom = height - FOOT
    body = "".join(
        (
            *_grid(scores, bottom),
            *_grid(seconds, bottom),
            _text((scores.start, 16), _score_title(ladder), "rung"),
            _text((seconds.start, 16), "seconds", "rung"),
            *(
                _row(ladder, rung, number, axes=(scores, seconds))
                for number, rung in enumerate(ladder.rungs)
            ),
        )
    )
    style = f"<style>{STYLE}</style>" if standalone else ""
    paper = f'<rect class="paper" width="{WIDTH:g}" height="{height:g}"/>' if standalone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ladder" role="img" '
        f'viewBox="0 0 {WIDTH:g} {height:g}" aria-label="{markup(_description(ladder))}">'
        f"{style}{paper}{body}</svg>\n"
    )


def score_text(ladder: Ladder, score: float, places: int = 1) -> str:
    """A score in its metric's form: a percentage, or a plain number."""
    if ladder.metric == "accuracy":
        return percent(score, places)
    return f"{score:.3f}".replace("-", "−") if isfinite(score) else "–"


def _axes(ladder: Ladder) -> tuple[Axis, Axis]:
    ends = [value for rung in ladder.rungs for value in (rung.low, rung.high)]
    shares = ladder.metric == "accuracy"
    if not shares:
        ends = [max(value, -1.0) for value in ends]  # a wild failure must not flatten the rest
    left = axis(ends, (NAMES, NAMES + SCORES), shares=shares, linear=True)
    times = [max(rung.seconds, 0.01) for rung in ladder.rungs] or [1.0]
    start = NAMES + SCORES + GAP
    return left, axis([*times, min(times) / 2], (start, start + SECONDS))


def _grid(scale: Axis, bottom: float) -> Iterator[str]:
    taken = -inf  # right end of the last label
    for tick in scale.ticks:
        x, label = scale.at(tick), scale.label(tick)
        half = CHARACTER * len(label) / 2
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8:g}" y2="{bottom:g}"/>'
        if x - half > taken:
            yield _text((x, bottom + 18), label, "mid")
            taken = x + half + LABEL_GAP


def _row(ladder: Ladder, rung: Rung, number: int, *, axes: tuple[Axis, Axis]) -> str:
    scores, seconds = axes
    y = TOP + ROW * (number + 0.5)
    low, at, high = (scores.at(value) for value in (rung.low, rung.score, rung.high))
    score = score_text(ladder, rung.score)
    width = CHARACTER * len(score) + 8
    fits = high + width < scores.end + GAP - 14
    label = (high + 8, "rung") if fits else (low - 8, "rung end")
    duration_x, took = seconds.at(max(rung.seconds, 0.01)), duration(rung.seconds)
    beyond = duration_x + 10 + CHARACTER * len(took) > WIDTH
    time_label = (duration_x - 10, "rung end") if beyond else (duration_x + 10, "rung")
    is_stop = rung.name == (ladder.stop_at or ladder.best)
    return (
        f'<g class="{"stop" if is_stop else ""}">'
        f"{_text((NAMES - 14, y + 4.5), rung.title, 'rung end')}"
        f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{y:g}" y2="{y:g}"/>'
        f'<circle cx="{at:.1f}" cy="{y:g}" r="4.5"/>'
        f"{_text((label[0], y + 4.5), score, label[1])}"
        f'<circle class="took" cx="{duration_x:.1f}" cy="{y:g}" r="4.5"/>'
        f"{_text((time_label[0], y + 4.5), took, time_label[1])}</g>"
    )


def _text(at: tuple[float, float], text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{at[0]:.1f}" y="{at[1]:g}">{markup(text)}</text>'


def _score_title(ladder: Ladder) -> str:
    name = "accuracy" if ladder.metric == "accuracy" else "R²"
    return f"validation {name}, 95 % interval"


def _description(ladder: Ladder) -> str:
    rungs = ", ".join(
        f"{rung.title} {score_text(ladder, rung.score)} in {figure(rung.seconds, 2)} s"
        for rung in ladder.rungs
    )
    return f"{_score_title(ladder)}: {rungs}"
