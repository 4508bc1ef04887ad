"""`thalweg report RUN`: write a run as one HTML file, without torch."""

import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from thalweg.cli.output import print_run, write_page
from thalweg.diagnosis import diagnose
from thalweg.errors import printable
from thalweg.files import replace_file
from thalweg.paths import unwritable
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
    """Write a run's report as one HTML file, and print its path.

    Parameters
    ----------
    run: Path
        The folder of a run, finished or not.
    out: Path
        Write to this file instead of RUN/report.html.
    show: bool
        Open the file in the browser.
    json: bool
        Print the report as JSON instead; write no file.
    """
    reader = RunReader(run)
    diagnosis = diagnose(reader.history)
    if json:
        print_run(reader, diagnosis, json=True)
        return
    page, path = render_html(reader, diagnosis), out or run / "report.html"
    if out:
        write_page(out, page)
    else:
        try:
            replace_file(path, page)
        except OSError as error:
            other = f"thalweg report {run} --out FILE.html"
            raise unwritable(path, error, instead=other) from error
    print(printable(str(path)))
    if show:
        webbrowser.open(path.absolute().as_uri())
