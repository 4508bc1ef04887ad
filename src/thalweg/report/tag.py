"""HTML building blocks of the sections. Every text is escaped here."""

from collections.abc import Iterable, Mapping, Sequence

from thalweg.wording import markup


def section(key: str, title: str, body: str) -> str:
    """A <section> with its heading; `body` is HTML already."""
    return (
        f'<section id="{key}" aria-labelledby="{key}-heading">'
        f'<h2 id="{key}-heading">{markup(title)}</h2>{body}</section>'
    )


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, words: Sequence[int] = ()
) -> str:
    """A table whose first column names the row; `words` are its other columns of text."""
    kinds = ["words" if index in words or not index else "" for index in range(len(header))]
    head = "".join(
        f'<th scope="col" class="{kind}">{markup(name)}</th>'
        for name, kind in zip(header, kinds, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{markup(row[0])}</th>'
        + "".join(
            f'<td class="{kind}">{markup(cell)}</td>'
            for cell, kind in zip(row[1:], kinds[1:], strict=True)
        )
        + "</tr>"
        for row in rows
    ).replace(' class=""', "")
    head = head.replace(' class=""', "")
    return scrolling(
        f'<table><caption class="unseen">{markup(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>",
        caption,
    )


def scrolling(body: str, name: str) -> str:
    """A box that scrolls sideways where its content is wider than the page, by keys too."""
    return f'<div class="wide" role="region" tabindex="0" aria-label="{markup(name)}">{body}</div>'


def terms(pairs: Mapping[str, str]) -> str:
    """A definition list of names and texts."""
    body = "".join(
        f"<div><dt>{markup(name)}</dt><dd>{markup(value)}</dd></div>"
        for name, value in pairs.items()
    )
    return f'<dl class="terms">{body}</dl>'


def bullet_list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{markup(item)}</li>" for item in items) + "</ul>"


def bar(share: float, kind: str = "") -> str:
    """A share as a bar, to stand beside its figure."""
    width = 100 * min(max(share, 0.0), 1.0) if share == share else 0.0
    return (
        f'<svg class="bar {kind}" viewBox="0 0 100 8" preserveAspectRatio="none" '
        f'aria-hidden="true"><rect class="track" width="100" height="8"/>'
        f'<rect width="{width:.1f}" height="8"/></svg>'
    )
