"""A ladder as one HTML file: the advice, the picture, the table."""

from thalweg.record.ladder import Ladder, Rung
from thalweg.report.ladder_picture import STYLE, ladder_svg, score_text
from thalweg.report.page import html_page
from thalweg.report.tag import section, table, terms
from thalweg.wording import count, duration, large, markup

HEADER = ("rung", "validation", "95 % interval", "n", "training", "time", "weights", "chosen")


def render_ladder(ladder: Ladder) -> str:
    """The ladder as a self-contained page: where to stop, the picture, the table."""
    name, title = ladder.path.absolute().name, headline(ladder)
    body = (
        f"<header><p class='eyebrow'><b>{markup(name)}</b> · {markup(ladder.state)} · "
        f"{markup(ladder.source)}</p><h1>{markup(title)}</h1>"
        f"<p class='advice'>{markup(ladder.advice)}</p>{_untried(ladder)}</header>\n"
        f"<main>{_body(ladder)}</main>\n"
        f"<footer>thalweg {markup(ladder.environment.get('thalweg', ''))}</footer>"
    )
    return html_page(f"{name}: {title}", body, style=STYLE)


def headline(ladder: Ladder) -> str:
    """The rung to stop at, with its score and time; the best so far while others are untried."""
    is_final = ladder.stop_at and ladder.state == "finished"
    name = ladder.stop_at if is_final else ladder.best
    if not name:
        return "No rung yet"
    rung = ladder[name]
    result = f"{score_text(ladder, rung.score)} in {duration(rung.seconds)}"
    return f"Stop at {rung.title}: {result}" if is_final else f"Best so far: {rung.title}, {result}"


def untried_text(ladder: Ladder) -> str:
    """The strong rungs that were left out; "" for none."""
    if not ladder.untried:
        return ""
    names = ", ".join(ladder.untried)
    return f"Untried: {names}. One of them may be better; “left out” says what each needs."


def _untried(ladder: Ladder) -> str:
    text = untried_text(ladder)
    return f"<p class='advice'>{markup(text)}</p>" if text else ""


def _body(ladder: Ladder) -> str:
    rows = [_row(ladder, rung) for rung in ladder.rungs]
    counts = ", ".join(count(number, f"{split} sample") for split, number in ladder.counts.items())
    about = {"data": counts, "time": duration(ladder.seconds), **ladder.environment}
    parts = [
        section("picture", "The ladder", ladder_svg(ladder, standalone=False)),
        section("rungs", "The rungs", table(HEADER, rows, caption="rungs", words=(7,))),
    ]
    if ladder.left_out:
        parts.append(section("left", "Left out", terms(ladder.left_out)))
    return "".join([*parts, section("about", "Where and how", terms(about) + _about_intervals())])


def _row(ladder: Ladder, rung: Rung) -> list[str]:
    return [
        rung.title,
        score_text(ladder, rung.score),
        f"{score_text(ladder, rung.low)} to {score_text(ladder, rung.high)}",
        count(rung.samples),
        score_text(ladder, rung.train_score),
        duration(rung.seconds),
        large(rung.parameters) if rung.parameters else "–",
        rung.chosen,
    ]


def _about_intervals() -> str:
    return (
        "<p class='soft'>Intervals are over validation samples, for one seed: another seed moves a "
        "network's score as well. The rung to stop at is the quickest that is not shown to be "
        "worse than the best, by the errors of the two on the same samples.</p>"
    )
