"""`thalweg report RUN`: the run as one HTML file; no torch."""

import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from thalweg.cli.output import print_run
from thalweg.diagnosis import diagnose
from thalweg.errors import printable
from thalweg.record import RunReader
from thalweg.report import render_html


def report(
    run: Path,
    /,
    *,
    out: Path | None = None,
    show: Annotated[bool, Parameter(name="--open")] = False,
    json: bool = False,
) -> None:
    """Write a run's report as one HTML file, and print where it is.

    Parameters
    ----------
    run: Path
        A run's folder, finished or not.
    out: Path
        The file to write instead of RUN/report.html.
    show: bool
        Open it in the browser.
    json: bool
        Print what the report says as JSON instead; write nothing.
    """
    reader = RunReader(run)
    found = diagnose(reader.history)
    if json:
        print_run(reader, found, json=True)
        return
    path = out or run / "report.html"
    path.write_text(render_html(reader, found), encoding="utf-8")
    print(printable(str(path)))
    if show:
        webbrowser.open(path.absolute().as_uri())
