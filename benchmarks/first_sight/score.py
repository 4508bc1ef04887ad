"""Run the rounds; count how often the cause is named, and how often a sound program is accused."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from math import sqrt
from pathlib import Path
from typing import Any

from benchmarks.first_sight.outcome import WAYS, Run
from benchmarks.first_sight.programs import PROGRAMS

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent
SECONDS = 600  # after which a run has failed
Outcomes = dict[Run, dict[str, Any]]


def main() -> dict[str, Any]:
    outcomes = run_all(list(_runs()))
    rounds = sorted({run.round for run in outcomes})
    scores = {str(one): score(_of_round(outcomes, one)) for one in rounds}
    result = {"rounds": scores, "all": score(outcomes), "programs": _listing(outcomes)}
    print("\n".join(table(scores | {"all": result["all"]})), file=sys.stderr)
    return result


def run_all(runs: list[Run]) -> Outcomes:
    """The outcome of each run, from a process of its own."""
    with ThreadPoolExecutor(int(os.environ.get("FIRST_SIGHT_PROCESSES", "2"))) as pool:
        outcomes = {}
        for run, result in zip(runs, pool.map(_in_own_process, runs), strict=True):
            outcomes[run] = result
            print(_line(run, result), file=sys.stderr, flush=True)
    return outcomes


def score(outcomes: Outcomes) -> dict[str, Any]:
    """Shares by way of watching, each with its 95 % interval (Wilson 1927)."""
    accepted = accepted_causes()
    scores: dict[str, Any] = {}
    for way in WAYS:
        mine = {run: result for run, result in outcomes.items() if run.way == way}
        faulty = {run: result for run, result in mine.items() if run.form == "faulty"}
        causes = {run: result.get("causes", []) for run, result in faulty.items()}
        first = [bool({*causes[run][:1]} & {*accepted[run.program]}) for run in faulty]
        three = [bool({*causes[run][:3]} & {*accepted[run.program]}) for run in faulty]
        sound = [result for run, result in mine.items() if run.form == "sound"]
        fixed = [result for run, result in mine.items() if run.form == "fixed"]
        scores[way] = {
            "cause first": share(first),
            "cause among three": share(three),
            "false alarms, sound": share(bool(result.get("causes")) for result in sound),
            "false alarms, repaired": share(bool(result.get("causes")) for result in fixed),
            "crashed": share("crashed" in result for result in mine.values()),
            "broken measurements": share(bool(result.get("broken")) for result in mine.values()),
        }
    return scores


def share(flags: Iterable[bool], z: float = 1.96) -> dict[str, Any]:
    """Hits, n, their share, and its Wilson interval."""
    hits, n = 0, 0
    for flag in flags:
        hits, n = hits + flag, n + 1
    if not n:
        return {"hits": 0, "n": 0}
    p, d = hits / n, 1 + z * z / n
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / d
    middle = (p + z * z / (2 * n)) / d
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return {
        "hits": hits,
        "n": n,
        "share": round(p, 3),
        "low": round(low, 3),
        "high": round(high, 3),
    }


def table(scores: dict[str, Any]) -> list[str]:
    """A line a round and way, a column a measure, in Markdown."""
    measures = ["cause first", "cause among three", "false alarms, sound", "false alarms, repaired"]
    lines = ["| round | watched by | " + " | ".join(measures) + " |", "| --- " * 6 + "|"]
    for name, by_way in scores.items():
        for way, shares in by_way.items():
            if any(shares[measure]["n"] for measure in measures):
                cells = " | ".join(_cell(shares[measure]) for measure in measures)
                lines.append(f"| {name} | {way} | {cells} |")
    return lines


def accepted_causes() -> dict[str, list[str]]:
    """Program → the rules that name its cause."""
    table: dict[str, list[str]] = json.loads((FOLDER / "accepted.json").read_text("utf-8"))
    return {name: table.get(name, []) for name in PROGRAMS}


def _cell(one: dict[str, Any]) -> str:
    if not one["n"]:
        return "–"
    return f"{one['hits']}/{one['n']} = {one['share']:.0%} [{one['low']:.0%}, {one['high']:.0%}]"


def _runs() -> Iterable[Run]:
    ways = os.environ.get("FIRST_SIGHT_WAYS", ",".join(WAYS)).split(",")
    only = os.environ.get("FIRST_SIGHT_PROGRAMS", "")
    seed = int(os.environ.get("FIRST_SIGHT_SEED", "0"))
    for number in _rounds():
        before = set(PROGRAMS)
        import_module(f"benchmarks.first_sight.rounds.round_{number}")
        for name in [name for name in PROGRAMS if name not in before]:
            if not only or name in only.split(","):
                forms = ("faulty", "fixed") if PROGRAMS[name].fault else ("sound",)
                wanted = [form for form in forms if form in _forms()]
                yield from (Run(number, name, form, way, seed) for form in wanted for way in ways)


def _forms() -> list[str]:
    return os.environ.get("FIRST_SIGHT_FORMS", "faulty,fixed,sound").split(",")


def _rounds() -> list[int]:
    there = sorted(int(path.stem[6:]) for path in (FOLDER / "rounds").glob("round_*.py"))
    only = os.environ.get("FIRST_SIGHT_ROUNDS", "")
    return [int(one) for one in only.split(",")] if only else there


def _in_own_process(run: Run) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.first_sight.outcome", *map(str, run)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"crashed": f"not done in {SECONDS} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"crashed": done.stderr[-800:]}
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def _of_round(outcomes: Outcomes, number: int) -> Outcomes:
    return {run: result for run, result in outcomes.items() if run.round == number}


def _line(run: Run, result: dict[str, Any]) -> str:
    verdict = result.get("causes", "crashed")
    return f"{run.program} ({run.form}, {run.way}): {verdict} {result.get('metrics', '')}"


def _listing(outcomes: Outcomes) -> dict[str, Any]:
    """Each run's causes, by program, form and way."""
    listing: dict[str, Any] = {}
    for run, result in outcomes.items():
        forms = listing.setdefault(run.program, {"kind": PROGRAMS[run.program].kind})
        forms.setdefault(run.form, {})[run.way] = result
    return listing
