"""`thalweg diagnose RUN`: today's rules over yesterday's measurements; no torch."""

from pathlib import Path

from thalweg.cli.output import print_run
from thalweg.diagnosis import Diagnosis
from thalweg.diagnosis import diagnose as judge
from thalweg.diagnosis.rule import SEVERITIES, Severity
from thalweg.record import RunReader
from thalweg.report import render_html

FAILED = 4  # exit code: a finding at or above --fail-on


def diagnose(
    run: Path,
    /,
    *,
    json: bool = False,
    html: Path | None = None,
    fail_on: Severity | None = None,
) -> int:
    """Say what is wrong with a run, what to change, and what was not checked.

    Parameters
    ----------
    run: Path
        A run's folder, finished or not.
    json: bool
        Print JSON instead of text.
    html: Path
        Also write the report to this file.
    fail_on: str
        Exit with 4 if a finding is this severe or worse.
    """
    reader = RunReader(run)
    found = judge(reader.history)
    if html is not None:
        html.write_text(render_html(reader, found), encoding="utf-8")
    print_run(reader, found, json=json)
    return FAILED if fail_on and _reaches(found, fail_on) else 0


def _reaches(diagnosis: Diagnosis, severity: Severity) -> bool:
    severe = SEVERITIES[: SEVERITIES.index(severity) + 1]  # the worst comes first
    return any(finding.severity in severe for finding in diagnosis.findings)
