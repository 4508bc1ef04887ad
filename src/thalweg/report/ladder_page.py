"""A climb of the ladder as one HTML file: the advice, the picture, the table."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from thalweg.record.ladder import Ladder, Rung
from thalweg.report.ladder_picture import STYLE, ladder_svg, score_text
from thalweg.report.tag import section, table, terms
from thalweg.wording import count, duration, large, markup

HERE = Path(__file__).parent
HEADER = ("rung", "validation", "95 % interval", "n", "training", "time", "weights", "chosen")


def render_ladder(climb: Ladder) -> str:
    """A self-contained page; nothing in it can reach the network."""
    style = (HERE / "report.css").read_text(encoding="utf-8") + STYLE
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    name = climb.path.absolute().name
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{markup(name)}: {markup(headline(climb))}</title><style>{style}</style></head>\n"
        f"<body><header><p class='eyebrow'><b>{markup(name)}</b> · {markup(climb.state)} · "
        f"{markup(climb.source)}</p><h1>{markup(headline(climb))}</h1>"
        f"<p class='advice'>{markup(climb.advice)}</p></header>\n<main>{_body(climb)}</main>\n"
        f"<footer>thalweg {markup(climb.environment.get('thalweg', ''))}</footer></body></html>\n"
    )


def headline(climb: Ladder) -> str:
    """Where to stop, in a few words."""
    if not climb.stop_at:
        return "Nothing climbed yet"
    stop = climb[climb.stop_at]
    return f"Stop at {stop.title}: {score_text(climb, stop.score)} in {duration(stop.seconds)}"


def _body(climb: Ladder) -> str:
    rows = [_row(climb, rung) for rung in climb.rungs]
    counts = ", ".join(count(number, f"{split} sample") for split, number in climb.counts.items())
    about = {"data": counts, "time": duration(climb.seconds), **climb.environment}
    parts = [
        section("picture", "The climb", ladder_svg(climb, standalone=False)),
        section("rungs", "The rungs", table(HEADER, rows, caption="rungs", words=(7,))),
    ]
    if climb.left_out:
        parts.append(section("left", "Left out", terms(climb.left_out)))
    return "".join([*parts, section("about", "Where and how", terms(about) + _said())])


def _row(climb: Ladder, rung: Rung) -> list[str]:
    return [
        rung.title,
        score_text(climb, rung.score),
        f"{score_text(climb, rung.low)} to {score_text(climb, rung.high)}",
        count(rung.samples),
        score_text(climb, rung.train_score),
        duration(rung.seconds),
        large(rung.parameters) if rung.parameters else "–",
        rung.chosen,
    ]


def _said() -> str:
    return (
        "<p class='soft'>Intervals are over validation samples, for one seed: another seed moves a "
        "network's score as well. The rung to stop at is the quickest that is not shown to be "
        "worse than the best, by the errors of the two on the same samples.</p>"
    )
