"""`thalweg diagnose PATH`: diagnose a recorded run or a training log, without torch."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from thalweg.cli.output import print_log, print_run, write_page
from thalweg.diagnosis import Diagnosis, diagnose_log
from thalweg.diagnosis import diagnose as diagnose_history
from thalweg.diagnosis.rule import SEVERITIES, Severity
from thalweg.errors import DataError, UsageError
from thalweg.record import RunReader
from thalweg.record.logs import read_log
from thalweg.record.run_folder import is_run
from thalweg.report import render_diagnosis, render_html
from thalweg.report.facts import read_facts
from thalweg.report.verdict import verdict

HAS_FINDING = 4  # exit code: a finding at or above --fail-on
NOTHING_CHECKED = DataError.exit_code


def diagnose(
    path: Path,
    /,
    *,
    json: bool = False,
    html: Path | None = None,
    fail_on: Severity | None = None,
    column: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    num_classes: int | None = None,
) -> int:
    """Say what is wrong with a run, what to change, and what was not checked.

    Parameters
    ----------
    path: Path
        The folder of a run, finished or not; or the log of another trainer: a CSV file, a
        trainer_state.json, a TensorBoard log.
    json: bool
        Print JSON instead of text.
    html: Path
        Also write the report to this file.
    fail_on: str
        Exit with 4 if a finding or the headline is this severe or worse; with 3 if nothing could
        be checked.
    column: str
        For a log: what a column measures, if its name does not say so: val_loss=validation/ce.
    num_classes: int
        For a log: number of classes, from which the loss and accuracy of chance follow.
    """
    if num_classes is not None and num_classes < 2:
        raise UsageError(
            "a classifier has two classes or more", seen=f"--num-classes {num_classes}", fix="2, …"
        )
    if is_run(path):
        diagnosis = _diagnose_run(path, html, json=json)
    else:
        columns = _log_columns(column)
        diagnosis = _diagnose_log(path, html, json=json, columns=columns, num_classes=num_classes)
    if fail_on is None:
        return 0
    tone = verdict(read_facts(RunReader(path), diagnosis)).tone if is_run(path) else "plain"
    severe = SEVERITIES[: SEVERITIES.index(fail_on) + 1]  # the worst comes first
    if not {tone, *(finding.severity for finding in diagnosis.findings)}.isdisjoint(severe):
        return HAS_FINDING
    return 0 if diagnosis.has_result else NOTHING_CHECKED


def _diagnose_run(path: Path, html: Path | None, *, json: bool) -> Diagnosis:
    reader = RunReader(path)
    diagnosis = diagnose_history(reader.history)
    if html is not None:
        write_page(html, render_html(reader, diagnosis))
    print_run(reader, diagnosis, json=json)
    return diagnosis


def _diagnose_log(
    path: Path,
    html: Path | None,
    *,
    json: bool,
    columns: dict[str, str],
    num_classes: int | None,
) -> Diagnosis:
    log = read_log(path, columns=columns, num_classes=num_classes)
    log.check_columns()
    diagnosis = diagnose_log(log.history, by_epoch=log.by_epoch)
    if html is not None:
        write_page(html, render_diagnosis(diagnosis))
    print_log(log, diagnosis, json=json)
    return diagnosis


def _log_columns(options: tuple[str, ...]) -> dict[str, str]:
    """Quantity → column, from the texts after --column."""
    pairs = [option.partition("=")[::2] for option in options]
    if incomplete := [name for name, column in pairs if not (name and column)]:
        raise UsageError(
            "--column takes a quantity and a column",
            seen=f"--column {incomplete[0]}",
            fix="--column val_loss=COLUMN",
        )
    return dict(pairs)
