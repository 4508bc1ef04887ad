"""`thalweg diagnose PATH`: today's rules over yesterday's measurements; no torch."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from thalweg.cli.output import print_curves, print_run
from thalweg.diagnosis import Diagnosis, diagnose_log
from thalweg.diagnosis import diagnose as judge
from thalweg.diagnosis.rule import SEVERITIES, Severity
from thalweg.errors import UsageError
from thalweg.record import RunReader
from thalweg.record.logs import read_log
from thalweg.record.run_folder import is_run
from thalweg.report import render_diagnosis, render_html

FAILED = 4  # exit code: a finding at or above --fail-on


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
        A run's folder, finished or not. Or curves, as far as they reach: a CSV file, a
        trainer_state.json, a TensorBoard log.
    json: bool
        Print JSON instead of text.
    html: Path
        Also write the report to this file.
    fail_on: str
        Exit with 4 if a finding is this severe or worse.
    column: str
        Of curves: what a column measures whose name does not tell, as val_loss=validation/ce.
    num_classes: int
        Of curves: how many classes there are, so that chance is known.
    """
    if is_run(path):
        found = _of_run(path, html, json=json)
    else:
        found = _of_curves(path, html, json=json, columns=_pairs(column), num_classes=num_classes)
    return FAILED if fail_on and _reaches(found, fail_on) else 0


def _of_run(path: Path, html: Path | None, *, json: bool) -> Diagnosis:
    reader = RunReader(path)
    found = judge(reader.history)
    if html is not None:
        html.write_text(render_html(reader, found), encoding="utf-8")
    print_run(reader, found, json=json)
    return found


def _of_curves(
    path: Path,
    html: Path | None,
    *,
    json: bool,
    columns: dict[str, str],
    num_classes: int | None,
) -> Diagnosis:
    recording = read_log(path, columns=columns, num_classes=num_classes)
    found = diagnose_log(recording.history, by_epoch=recording.by_epoch)
    if html is not None:
        html.write_text(render_diagnosis(found), encoding="utf-8")
    print_curves(recording, found, json=json)
    return found


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    pairs = [one.partition("=")[::2] for one in given]
    if wrong := [name for name, column in pairs if not (name and column)]:
        raise UsageError(
            "--column takes a quantity and a column",
            seen=f"--column {wrong[0]}",
            fix="write --column val_loss=COLUMN",
        )
    return dict(pairs)


def _reaches(diagnosis: Diagnosis, severity: Severity) -> bool:
    severe = SEVERITIES[: SEVERITIES.index(severity) + 1]  # the worst comes first
    return any(finding.severity in severe for finding in diagnosis.findings)
