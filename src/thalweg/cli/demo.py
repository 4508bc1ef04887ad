"""`thalweg demo`: the whole path in a minute, on real scans, with one sabotage."""

import sys
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from thalweg.cli.progress import painted
from thalweg.cli.terminal import styled
from thalweg.errors import printable
from thalweg.recipes.recipe import recorded_recipe

if TYPE_CHECKING:
    from thalweg.api import Run
    from thalweg.diagnosis import Diagnosis

SABOTAGE = 1000  # times the recipe's learning rate
PROMISED = 0.98  # validation accuracy of the run that was left alone


def demo(*, out: Path = Path("demo")) -> int:
    """Train on real scans of digits, sabotage the run, diagnose both, write both reports.

    Exits with 1 if the scans were not learnt, or the sabotage was not found.

    Parameters
    ----------
    out: Path
        Folder for the scans and the runs.
    """
    scans, runs = out / "digits", out / "runs"
    _write_scans(scans)
    _say(1, f"Real scans of handwritten digits, a folder a class: {scans}")
    _say(2, f"thalweg train {scans} --out {runs}")
    healthy = _trained(scans, runs, {})
    lr = recorded_recipe(healthy.path).optimizer.lr
    _say(3, f"The same, sabotaged: --lr {SABOTAGE * lr:g}, {SABOTAGE} times the recipe's")
    sick = _trained(scans, runs, {"optimizer.lr": SABOTAGE * lr})
    _say(4, "Go on:")
    print(f"   thalweg predict {healthy.path} {scans / '7'}\n   thalweg diagnose {sick.path}")
    learnt = healthy.metrics["val_accuracy"] >= PROMISED and not healthy.diagnosis.headline
    return 0 if learnt and sick.diagnosis.headline else 1


def _write_scans(folder: Path) -> None:
    from thalweg.data.digits import write_digits

    if not folder.exists():
        write_digits(folder)


def _trained(scans: Path, runs: Path, edits: Mapping[str, object]) -> "Run":
    """Train, also to a bad end; say what came of it."""
    from thalweg import api

    progress, began = api.Progress(), monotonic()
    try:
        with painted(progress, sys.stderr):
            run = api.train(scans, edits=edits, out=runs, progress=progress)
    except api.FailedRunError as failure:
        run = api.Run(failure.path)
        print(f"   {printable(failure.problem)}")
    figures = (f"{name} {value:.4f}" for name, value in run.metrics.items())
    print(f"   {', '.join(figures) or 'no figures'}, in {monotonic() - began:.0f} s")
    _say_diagnosis(run.diagnosis)
    print(f"   {run.report()}")
    return run


def _say_diagnosis(diagnosis: "Diagnosis") -> None:
    found = diagnosis.headline
    if found is None:
        passed, missing = len(diagnosis.passed), len(diagnosis.not_checked)
        print(f"   diagnosis: nothing wrong; {passed} checks passed, {missing} could not be made")
        return
    name = styled(found.rule, "red", sys.stdout)
    print(f"   diagnosis: {name}: {printable(found.summary)}")
    for advice in found.prescriptions[:1]:
        print(f"   change: {printable(advice.change)}\n   expect: {printable(advice.expect)}")


def _say(number: int, text: str) -> None:
    print(styled(f"{number}. {printable(text)}", "bold", sys.stdout))
