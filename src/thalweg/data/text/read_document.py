"""The bytes of a file → one text to classify, in whatever encoding a mail or a review has."""

import codecs

from thalweg.errors import DataError

FALLBACK = "cp1252"  # Latin-1 with the marks of Windows
_MARKS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def decode_document(data: bytes, *, name: str) -> str:
    """The text of bytes: UTF-8, UTF-16 with its mark, else Windows-1252.

    Raises DataError for what holds bytes of zero, which no text does.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    if b"\0" in data:
        raise DataError(f"{name} is no text: it holds bytes of zero", fix="give a file of text")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError:
        return data.decode(FALLBACK, errors="replace")
