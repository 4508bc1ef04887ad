"""The gallery of the surest mistakes."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO

from thalweg.record import PredictionRow
from thalweg.report.tag import table
from thalweg.wording import markup, percent

TINY = 32  # pixels of a side, up to which enlarged pixels are shown as squares
GALLERY = 24  # pictures
GALLERY_BYTES = 1_500_000


def gallery(wrong: Sequence[PredictionRow]) -> str:
    """The most confident mistakes, as pictures where there are any, else as a table."""
    if not wrong:
        return ""
    items: list[str] = []
    room = GALLERY_BYTES
    for row in wrong:
        picture = _picture(row)
        room -= len(picture)
        if picture and room > 0 and len(items) < GALLERY:
            items.append(_gallery_item(row, picture))
    title = "<h3>The surest mistakes</h3>"
    if items:
        return f'{title}<ul class="gallery">{"".join(items)}</ul>'
    rows = [
        [row.name, row.target, row.predicted, percent(row.probability)] for row in wrong[:GALLERY]
    ]
    header = ["sample", "true", "predicted", "probability"]
    return title + table(header, rows, caption="The surest mistakes", words=[1, 2])


def _gallery_item(row: PredictionRow, picture: str) -> str:
    name = row.name.rpartition("/")[2]
    return (
        f'<li><figure>{picture}<figcaption><span class="true">{markup(row.target)}</span>'
        f'<span class="wrong">{markup(row.predicted)} <b>{percent(row.probability, 0)}</b></span>'
        f'<span class="file" title="{markup(row.name)}">{markup(name)}</span></figcaption>'
        "</figure></li>"
    )


def _picture(row: PredictionRow) -> str:
    """The thumbnail as an <img>; "" where there is none, or where it cannot be read."""
    if not row.thumbnail:
        return ""
    from PIL import Image, UnidentifiedImageError  # late: only this section needs it

    try:
        with Image.open(BytesIO(row.thumbnail), formats=("PNG", "WEBP", "JPEG")) as image:
            kind, (width, height) = str(image.format).lower(), image.size
    except (UnidentifiedImageError, OSError, ValueError):
        return ""
    tiny = ' class="tiny"' if max(width, height) <= TINY else ""
    description = f"{row.name}: {row.target}, called {row.predicted}"
    data = b64encode(row.thumbnail).decode()
    return (
        f'<img{tiny} width="{width}" height="{height}" alt="{markup(description)}" '
        f'src="data:image/{kind};base64,{data}">'
    )
