"""`thalweg demo`: train on real scans, sabotage the run, diagnose both."""

import sys
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from thalweg.cli.terminal import styled
from thalweg.errors import printable, shell_word
from thalweg.recipes.recipe import recorded_recipe
from thalweg.runs.progress_line import show_progress

if TYPE_CHECKING:
    from thalweg.api import Run
    from thalweg.diagnosis import Diagnosis

SABOTAGE = 1000  # times the recipe's learning rate
LEAST_ACCURACY = 0.98  # on the validation split, of the healthy run


def demo(*, out: Path = Path("demo")) -> int:
    """Train on real scans of digits, sabotage the run, diagnose both, write both reports.

    Exits with 1 if the healthy run is not accurate, or the diagnosis misses the sabotage.

    Parameters
    ----------
    out: Path
        Folder for the scans and the runs.
    """
    scans, runs = out / "digits", out / "runs"
    _write_scans(scans)
    _print_step(1, f"Real scans of handwritten digits, a folder a class: {scans}")
    _print_step(2, f"thalweg train {shell_word(scans)} --out {shell_word(runs)}")
    healthy = _train(scans, runs, {})
    lr = recorded_recipe(healthy.path).optimizer.lr
    _print_step(3, f"The same, sabotaged: --lr {SABOTAGE * lr:g}, {SABOTAGE} times the recipe's")
    sick = _train(scans, runs, {"optimizer.lr": SABOTAGE * lr})
    _print_step(4, "Try next:")
    sound, sabotaged, image = map(shell_word, (healthy.path, sick.path, scans / "7"))
    print(f"   thalweg predict {sound} {image}\n   thalweg diagnose {sabotaged}")
    is_accurate = healthy.metrics["val_accuracy"] >= LEAST_ACCURACY
    is_diagnosed = sick.diagnosis.headline and not healthy.diagnosis.headline
    return 0 if is_accurate and is_diagnosed else 1


def _write_scans(folder: Path) -> None:
    from thalweg.data.digits import write_digits

    if not folder.exists():
        write_digits(folder)


def _train(scans: Path, runs: Path, edits: Mapping[str, object]) -> "Run":
    """Train, even to failure, and print the scores and the diagnosis."""
    from thalweg import api

    progress, start = api.Progress(), monotonic()
    try:
        with show_progress(progress, sys.stderr):
            run = api.train(scans, edits=edits, out=runs, progress=progress)
    except api.FailedRunError as failure:
        run = api.Run(failure.path)
        print(f"   {printable(failure.problem)}")
    scores = (f"{name} {value:.4f}" for name, value in run.metrics.items())
    print(f"   {', '.join(scores) or 'no scores'}, in {monotonic() - start:.0f} s")
    _print_diagnosis(run.diagnosis)
    print(f"   {run.report()}")
    return run


def _print_diagnosis(diagnosis: "Diagnosis") -> None:
    finding = diagnosis.headline
    if finding is None:
        passed, missing = len(diagnosis.passed), len(diagnosis.not_checked)
        print(f"   diagnosis: nothing wrong; {passed} checks passed, {missing} could not be made")
        return
    name = styled(finding.rule, "red", sys.stdout)
    print(f"   diagnosis: {name}: {printable(finding.summary)}")
    for advice in finding.prescriptions[:1]:
        print(f"   change: {printable(advice.change)}\n   expect: {printable(advice.expect)}")


def _print_step(number: int, text: str) -> None:
    print(styled(f"{number}. {printable(text)}", "bold", sys.stdout))
