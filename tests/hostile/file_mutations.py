"""Damage an image or a table as disks, editors, exports and attackers do."""

import io

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "MPO", "ICO")
MODES = ("RGB", "L", "RGBA", "P", "1", "CMYK", "I;16", "LA")
SUFFIXES = (".jpg", ".png", ".webp", ".gif", ".bmp", ".tif", ".ppm", ".avif", ".JPEG", ".heic")
ODD_NUMBERS = (
    *(
        "1e999",
        "-1e999",
        "nan",
        "NaN",
        "inf",
        "1_0",
        "0x1F",
        "1,5",
        "١٢",
        "9" * 400,
        "1e-400",
        "--1",
    ),
    *("9007199254740993", "", " ", "NULL", "None", "#N/A", "=1+1", "1 000", "½", "1e", "+", "true"),
)
ODD_TEXTS = (
    *(
        "\x1b[2J",
        "\u202eabc",
        "\0",
        '"',
        '""',
        "'",
        "\\",
        "a\nb",
        "\r",
        "x" * 200_000,
        "😀",
        "\ufeff",
    ),
    *("\x85", "\u2028", ";", "\t", "|", "2024-13-45", "9999-12-31", "../../etc/passwd", "<script>"),
)


def image_bytes(random):
    """A whole image of any format and mode, a suffix that may be another's."""
    size = random.choice([(1, 1), (7, 5), (16, 16), (33, 20), (64, 48)])
    pixels = np.random.default_rng(random.randrange(1 << 30)).integers(0, 255, (*size, 3), np.uint8)
    image = Image.fromarray(pixels)
    mode, format_ = random.choice(MODES), random.choice(FORMATS)
    options = {"exif": b"Exif\0\0" + random.randbytes(40)} if random.random() < 0.2 else {}
    for picture in (image if mode == "I;16" else image.convert(mode), image):
        file = io.BytesIO()
        try:
            picture.save(file, format_, **options)
        except Exception:  # not every format takes every mode
            continue
        return file.getvalue(), random.choice(SUFFIXES)
    return b"", ".png"


def damaged(data, random, other=b""):
    """The bytes with one to three kinds of damage."""
    for _ in range(random.randrange(1, 4)):
        data = random.choice(DAMAGES)(data, random, other)
    return data


def _flip(data, random, _):
    changed = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 8, 64])):
        if changed:
            changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def _head(data, random, _):
    """Damage in the header, where sizes stand."""
    changed = bytearray(data)
    for _ in range(random.choice([1, 2, 4])):
        if changed:
            changed[random.randrange(min(64, len(changed)))] = random.choice([0, 1, 127, 128, 255])
    return bytes(changed)


def _cut(data, random, _):
    return data[: random.randrange(len(data) + 1)]


def _zeros(data, random, _):
    start = random.randrange(len(data) + 1)
    return data[:start] + bytes(min(len(data) - start, random.choice([1, 16, 4096]))) + data[start:]


def _insert(data, random, _):
    place = random.randrange(len(data) + 1)
    return data[:place] + random.randbytes(random.choice([1, 4, 100])) + data[place:]


def _repeat(data, random, _):
    start = random.randrange(len(data) + 1)
    part = data[start : start + random.choice([4, 64, 1000])]
    return data[:start] + part * random.choice([2, 50]) + data[start:]


def _splice(data, random, other):
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def _integer(data, random, _):
    """A field of four bytes with a number that overflows something."""
    place = random.randrange(max(1, len(data) - 4))
    number = random.choice([0, 1, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1])
    return data[:place] + number.to_bytes(4, random.choice(["big", "little"])) + data[place + 4 :]


DAMAGES = (_flip, _head, _cut, _zeros, _insert, _repeat, _splice, _integer)


def table_text(random):
    """A table of numbers, words, dates and gaps, with a target."""
    rows, words = random.choice([0, 1, 2, 5, 30, 60]), ["red", "green", "blue", ""]
    mark = random.choice([",", ",", ";", "\t", "|"])
    header = ["a", "b", "colour", "day", random.choice(["target", "label", "price", "y", "z"])]
    lines = [mark.join(header)]
    is_class = random.random() < 0.5
    for row in range(rows):
        target = ["cat", "dog"][row % 2] if is_class else f"{row * 1.5 + random.random():.3f}"
        cells = [
            str(row),
            f"{random.random():.4g}",
            random.choice(words),
            f"2024-0{1 + row % 9}-11",
        ]
        lines.append(mark.join([*cells, target]))
    return lines, mark


def damaged_table(random):
    """A table with a few odd cells, rows or bytes, in an encoding that may be another."""
    lines, mark = table_text(random)
    for _ in range(random.choice([0, 1, 2, 6])):
        place = random.randrange(len(lines))
        lines[place : place + 1] = random.choice(LINE_DAMAGES)(lines[place], mark, random)
        if not lines:
            lines = [""]
    text = random.choice(["\n", "\n", "\r\n", "\r", "\n\n"]).join(lines)
    encoding = random.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
    data = text.encode(encoding, errors="replace")
    return damaged(data, random, text.encode()) if random.random() < 0.3 else data


def _odd_cell(line, mark, random):
    cells = line.split(mark)
    cells[random.randrange(len(cells))] = random.choice(ODD_NUMBERS + ODD_TEXTS)
    return [mark.join(cells)]


def _more_cells(line, mark, random):
    return [line + mark * random.choice([1, 2, 5000])]


def _fewer_cells(line, mark, random):
    return [line.rpartition(mark)[0]]


def _twice(line, mark, random):
    return [line] * random.choice([2, 300])


def _gone(line, mark, random):
    return []


def _quoted(line, mark, random):
    return [mark.join(f'"{cell}"' for cell in line.split(mark)), random.choice(['"', '"open', ""])]


LINE_DAMAGES = (_odd_cell, _odd_cell, _odd_cell, _more_cells, _fewer_cells, _twice, _gone, _quoted)
