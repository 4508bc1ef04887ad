"""Numbers as people write them: 1,234.50 or 1.234,50, with a currency, a percent sign or a unit."""

import re
from collections import Counter
from collections.abc import Sequence

from thalweg.data.tables.cells import cell_number, is_number

SHARE = 0.95  # of the cells that must be numbers in the form; the others count as missing
LONGEST = 40  # characters of a number with its unit; longer cells are not looked at
LEAST_CELLS = 3
LEAST_DISTINCT = 3  # sizes such as "12 oz" and "16 oz" are rather two categories

_CURRENCY = r"[$€£¥₹₽₩₺]|USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|SEK|NOK|DKK|PLN|BRL"
_SPACE = "[   ']"  # also unbreakable and thin ones
_CELL = re.compile(
    rf"(?P<sign>[+-]?)\s*(?P<before>{_CURRENCY})?\s*(?P<digits>[+-]?[\d.,]*\d(?:{_SPACE}\d{{3}})*"
    rf"(?:[.,]\d+)?)\s*(?P<after>%|{_CURRENCY}|[a-zµ°²³/]+)?",
    re.IGNORECASE,
)
# How a column writes thousands and decimals, named by an example.
_STYLES = {
    "1234.5": re.compile(r"[+-]?\d+(?:\.\d+)?"),
    "1,234.5": re.compile(r"[+-]?(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d+)?"),
    "1234,5": re.compile(r"[+-]?\d+(?:[.,]\d+)?"),
    "1.234,5": re.compile(r"[+-]?(?:[1-9]\d{0,2}(?:\.\d{3})+|\d+)(?:,\d+)?"),
    "1 234,5": re.compile(rf"[+-]?(?:[1-9]\d{{0,2}}(?:{_SPACE}\d{{3}})+|\d+)(?:[.,]\d+)?"),
}
FORMS = tuple(_STYLES)  # each may be followed by a space and what stands beside the number


def number_form(cells: Sequence[str], *, has_decimal_commas: bool = False) -> str:
    """Tell how nearly all cells write numbers: "1,234.5 $"; "" for plain ones and for no numbers.

    Beside the numbers stands the same currency or unit everywhere, or none. Commas that might be
    both separate thousands, unless the table `has_decimal_commas`.
    """
    present = [cell.strip() for cell in cells]
    if len(present) < LEAST_CELLS or len(set(present)) < LEAST_DISTINCT:
        return ""
    if all(map(_is_plain, present)):
        return ""
    parts = [_parts(cell) for cell in present]
    beside = Counter(unit for unit, _ in filter(None, parts))
    if not beside:
        return ""
    unit, _ = beside.most_common(1)[0]
    digits = [part[1] for part in parts if part is not None and part[0] == unit]
    if len(digits) < SHARE * len(present):
        return ""
    style = _style(digits, least=SHARE * len(present), has_decimal_commas=has_decimal_commas)
    if not style or (style, unit) == ("1234.5", ""):
        return ""
    return f"{style} {unit}".strip()


def written_number(cell: str, form: str) -> float:
    """The number of a cell in a form of `number_form`, plain ones too; NaN for anything else."""
    style = next(style for style in FORMS if form.startswith(style))
    unit, parts = form.removeprefix(style).strip(), _parts(cell.strip())
    if _is_plain(cell) and not parts:
        return cell_number(cell)  # 1e5
    if parts is None or parts[0] not in ("", unit) or not _STYLES[style].fullmatch(parts[1]):
        return float("nan")
    text = parts[1]
    if style == "1,234.5":
        text = text.replace(",", "")
    elif style == "1.234,5":
        text = text.replace(".", "")
    elif style == "1 234,5":
        text = re.sub(_SPACE, "", text)
    return float(text.replace(",", "."))


def _parts(cell: str) -> tuple[str, str] | None:
    """The unit beside the number, and its sign and digits; None for what is no number."""
    if len(cell) > LONGEST:
        return None
    match = _CELL.fullmatch(cell)
    if match is None or (match["before"] and match["after"]):
        return None
    return match["before"] or match["after"] or "", match["sign"] + match["digits"]


def _style(digits: Sequence[str], *, least: float, has_decimal_commas: bool) -> str:
    """The first style that nearly all numbers have, and that some of their marks ask for."""
    names = ["1234.5"]
    if any(re.search(_SPACE, text) for text in digits):
        names = ["1 234,5"]
    elif any(re.search(r"\.\d{3}[.,]", text) for text in digits):
        names = ["1.234,5"]
    elif any("," in text for text in digits):
        names = ["1234,5", "1,234.5"] if has_decimal_commas else ["1,234.5", "1234,5"]
    return next((name for name in names if _count_fits(name, digits) >= least), "")


def _count_fits(style: str, digits: Sequence[str]) -> int:
    return sum(_STYLES[style].fullmatch(text) is not None for text in digits)


def _is_plain(cell: str) -> bool:
    return "," not in cell and is_number(cell)
