"""Run one program under one way of watching; return what the diagnosis says."""

import contextlib
import io
import json
import random
import sys
import traceback
import warnings
from importlib import import_module
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import torch

import thalweg
from benchmarks.first_sight.programs import PROGRAMS, Metrics, Program
from thalweg.diagnosis import Diagnosis

WAYS = ("loaders", "two lines", "run")
MOST_FINDINGS = 8


class Run(NamedTuple):
    """One training of one program."""

    round: int
    program: str
    form: str  # "faulty", "fixed" or "sound"
    way: str
    seed: int


def outcome(run: Run) -> dict[str, Any]:
    """Findings, metrics and processor seconds; or the error that ended the program."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    import_module(f"benchmarks.first_sight.rounds.round_{run.round}")
    program = PROGRAMS[run.program]
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(run.seed)
    began = process_time()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            diagnoses, metrics = _train(program, run)
    except Exception:
        return {"crashed": traceback.format_exc()[-800:]}
    findings = [finding for one in diagnoses for finding in _findings(one)]
    order = {"error": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda finding: (finding["explained"], order[finding["severity"]]))
    causes = [f["rule"] for f in findings if f["severity"] != "note" and not f["explained"]]
    broken = {
        reason
        for one in diagnoses
        for reason in one.not_checked.values()
        if "broke:" in reason or "rule itself failed" in reason
    }
    return {
        "causes": causes[:3],
        "findings": findings[:MOST_FINDINGS],
        "not checked": max((len(one.not_checked) for one in diagnoses), default=None),
        "broken": sorted(broken)[:4],
        "metrics": metrics,
        "seconds": round(process_time() - began, 2),
    }


def _train(program: Program, run: Run) -> tuple[list[Diagnosis], Metrics]:
    fixed = run.form == "fixed"
    if run.way == "run":
        script = import_module("thalweg.adapters.script")
        with script.watch_everything() as session:
            metrics = program(lambda *_, **__: Unwatched(), fixed=fixed)
        return list(session.diagnoses.values()), metrics
    watchers: list[Any] = []

    def watch(model: Any, optimizer: Any, **known: Any) -> Any:
        watchers.append(thalweg.watch(model, optimizer, **known if run.way == "loaders" else {}))
        return watchers[-1]

    metrics = program(watch, fixed=fixed)
    return [watcher.diagnose() for watcher in watchers], metrics


def _findings(diagnosis: Diagnosis) -> list[dict[str, Any]]:
    explained = {name for finding in diagnosis.findings for name in finding.consequences}
    return [
        {
            "rule": finding.rule,
            "severity": finding.severity,
            "explained": finding.rule in explained,
            "summary": finding.summary[:400],
            "change": "; ".join(one.change for one in finding.prescriptions)[:400],
        }
        for finding in diagnosis.findings
    ]


class Unwatched:
    """A watcher that ignores every call."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None

    def __enter__(self) -> "Unwatched":
        return self

    def __exit__(self, *_: object) -> None:
        return None


if __name__ == "__main__":  # in a process of its own: a program may leave anything behind
    round_, program_, form_, way_, seed_ = sys.argv[1:]
    print(json.dumps(outcome(Run(int(round_), program_, form_, way_, int(seed_)))))
