"""A text file → its text: UTF-8, without a byte order mark, with lines that end in a line feed."""

import codecs
from pathlib import Path

from thalweg.errors import DataError

LARGEST = 256 << 20  # bytes; a larger text takes days to read once on a processor
LEAST = 1_000  # characters; a tenth of fewer says nothing about a network

_MARKS = {  # of encodings whose first bytes name them; the longer mark of two first
    codecs.BOM_UTF32_LE: "UTF-32LE",
    codecs.BOM_UTF32_BE: "UTF-32BE",
    codecs.BOM_UTF16_LE: "UTF-16LE",
    codecs.BOM_UTF16_BE: "UTF-16BE",
}


def read_text_file(path: Path) -> str:
    """The text in a file. Raises DataError where it is too large, or no text in UTF-8."""
    size = path.stat().st_size
    if size > LARGEST:
        raise DataError(
            f"{path} is too large",
            seen=f"{size / 2**20:,.0f} MiB",
            fix=f"give at most {LARGEST >> 20} MiB of it, such as: head -c {LARGEST >> 20}M",
        )
    return decode_text(path.read_bytes(), name=str(path))


def decode_text(data: bytes, *, name: str) -> str:
    """The text of bytes in UTF-8. Raises DataError for another encoding, or for what is no text."""
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            raise DataError(
                f"{name} is not in UTF-8", seen=f"the mark of {encoding}", fix=_fix(encoding)
            )
    data = data.removeprefix(codecs.BOM_UTF8)
    if (place := data.find(b"\0")) >= 0:
        raise DataError(
            f"{name} is no text: it holds bytes of zero",
            seen=f"the first at byte {place:,} of {len(data):,}",
            fix="give a text in UTF-8",
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name} is not in UTF-8",
            seen=f"byte 0x{data[error.start]:02x} in line {line:,}",
            fix=_fix("ISO-8859-1"),
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def check_long_enough(text: str, *, name: str) -> None:
    """Raise DataError for a text that is empty, blank or too short to learn from."""
    if not text.strip():
        seen = f"{len(text):,} characters, all of them white space" if text else "0 bytes"
        raise DataError(f"{name} is empty", seen=seen, fix="give a text to learn")
    if len(text) < LEAST:
        raise DataError(
            f"{name} is too short to learn from",
            seen=f"{len(text):,} characters",
            fix=f"give at least {LEAST:,}; a network that writes takes some 100,000",
        )


def _fix(encoding: str) -> str:
    return f"save it as UTF-8, such as: iconv -f {encoding} -t UTF-8 FILE > NEW.txt"
