"""`thalweg forecast RUN`: forecast the steps after the end of series, with bands."""

import csv as csv_format
import sys
from pathlib import Path

from thalweg.cli.output import print_json
from thalweg.cli.terminal import table

HEADER = ("series", "time", "forecast", "low", "high")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # OWASP, CSV injection


def forecast(
    run: Path,
    file: Path | None = None,
    /,
    *,
    csv: bool = False,
    json: bool = False,
    device: str = "cpu",
) -> None:
    """Forecast the steps after the end of each series, with the band that holds 80 % of values.

    Parameters
    ----------
    run: Path
        The folder of a finished run that was trained on series.
    file: Path
        A file with the same columns, to forecast what follows it; without one, what follows the
        training file.
    csv: bool
        Print CSV: a row for each series and step.
    json: bool
        Print JSON.
    device: str
        Such as cpu or cuda.
    """
    from thalweg import api

    results = api.forecast(run, file, device=device)
    if json:
        print_json(forecasts=[one._asdict() for one in results])
        return
    rows = [
        (one.series, *row)
        for one in results
        for row in zip(one.times, one.median, one.low, one.high, strict=True)
    ]
    if csv:
        writer = csv_format.writer(sys.stdout, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows((_defused(name), _defused(time), *rest) for name, time, *rest in rows)
        return
    cells = [(name, time, *(f"{value:.6g}" for value in rest)) for name, time, *rest in rows]
    print(table(HEADER, cells))


def _defused(text: str) -> str:
    """The text with an apostrophe before a formula, so that a spreadsheet does not compute it."""
    is_number = text.lstrip("-").replace(".", "", 1).isdecimal()
    return f"'{text}" if text.startswith(_FORMULA_STARTS) and not is_number else text
