"""How often the diagnosis is right: on sound runs, faults, people's own programs; peers beside us.

Claims: false alarms ≤ 2 % of sound runs; the headline names the cause in ≥ 80 % of injected faults
and ≥ 75 % of people's own programs; precision of named causes ≥ 0.8; no crash; the weights come out
bit for bit as without watching. Runs are those of tests/faults and tests/healthy.

Each peer runs at its defaults on the same programs and seeds (every fourth run, since they are
slow); one that cannot be imported is left out. They are graded leniently: any word of the fault in
any finding counts as named, at any rank. Overhead by wall time is measured by `watch_overhead`;
here stands the processor time of whole runs, diagnosis included, against the same runs unwatched.

What was done is kept in a file under the system's temporary folder, so that a run that was stopped
goes on where it was; it starts anew when the package or the programs change.

Environment: DIAGNOSIS_HALF=development|held_out|all (tests/faults/split.json; all),
DIAGNOSIS_EVERY=n (every n-th run only; 1), DIAGNOSIS_PEERS=n (every n-th run of a peer; 4; 0 to
leave them out), DIAGNOSIS_PROCESSES (2), DIAGNOSIS_EARLY=n (every n-th fault is asked about while
it runs; 2).
"""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from math import sqrt
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks._diagnosis_peers import PEERS, WORDS, importable
from benchmarks._diagnosis_runs import REAL_BY_TIER, ROOT, Run, names_of, of_suites, outcome

SEEDS = {
    "sound": range(1),
    "loop": range(3),
    "fault": range(1),
    "asked": range(5),
    "repaired": range(2),
}
PEER_SEEDS = {"sound": range(1), "loop": range(1), "fault": range(1), "asked": range(1)}
Results = dict[Run, dict[str, Any]]


def main() -> dict[str, Any]:
    began = perf_counter()
    results = _carried_out(_wanted())
    tools = list(dict.fromkeys(run.tool for run in results if run.tool not in ("none", "early")))
    scores = {tool: score(tool, results) for tool in tools}
    found: dict[str, Any] = {
        "half": _half(),
        "every": _number("DIAGNOSIS_EVERY", 1),
        "seconds": round(perf_counter() - began),
        "tools": scores,
        "thalweg": ours(results),
        "held": held(scores["thalweg"]),
        "table": table(scores),
    }
    print("\n".join(found["table"]), file=sys.stderr)
    return found


def score(tool: str, results: Results) -> dict[str, Any]:
    """What one tool said over the suites, each share with its 95 % interval."""
    mine = {run: result for run, result in results.items() if run.tool == tool}
    ran = {run: result["causes"] for run, result in mine.items() if "causes" in result}
    sound = {run: said for run, said in ran.items() if run.suite in ("sound", "loop")}
    faults = {run: said for run, said in ran.items() if run.suite == "fault"}
    asked = {run: said for run, said in ran.items() if run.suite == "asked"}
    faulty = faults | asked
    hits = {run: [_right(tool, run, one) for one in said] for run, said in faulty.items()}
    judged = [hit for each in hits.values() for hit in each[:3]]
    first = {run: any(each if tool != "thalweg" else each[:1]) for run, each in hits.items()}
    return {
        "false alarms": share(bool(said) for said in sound.values()),
        "flagged": share(bool(said) for said in faulty.values()),
        "cause first, injected": share(first[run] for run in faults),
        "cause among three, injected": share(any(hits[run][:3]) for run in faults),
        "cause first, real": share(first[run] for run in asked),
        "precision": share(judged),
        "crashed": share("crashed" in result for result in mine.values()),
        "processor time": _relative_cost(mine, results),
    }


def ours(results: Results) -> dict[str, Any]:
    """What only our own runs can tell."""
    mine = {run: result for run, result in results.items() if run.tool == "thalweg"}
    said = {run: result["causes"] for run, result in mine.items() if "causes" in result}
    bare = {run._replace(tool="thalweg"): r for run, r in results.items() if run.tool == "none"}
    both = [run for run in bare if "weights" in bare[run] and "weights" in mine.get(run, {})]
    sound = {run: causes for run, causes in said.items() if run.suite in ("sound", "loop")}
    faulty = {run: causes for run, causes in said.items() if run.suite in ("fault", "asked")}
    repaired = [causes for run, causes in said.items() if run.suite == "repaired"]
    return {
        "false alarms by suite": {
            suite: share(bool(c) for run, c in sound.items() if run.suite == suite)
            for suite in ("sound", "loop")
        },
        "real, by tier": {
            tier: share(
                causes[:1] != [] and causes[0] in names_of(run)
                for run, causes in faulty.items()
                if run.suite == "asked" and run.name in programs
            )
            for tier, programs in REAL_BY_TIER.items()
        },
        "alarms on repaired programs": share(bool(causes) for causes in repaired),
        "weights unchanged": share(bare[run]["weights"] == mine[run]["weights"] for run in both),
        "runs with a broken check": share(bool(r.get("broken")) for r in mine.values()),
        "verdict": verdicts(results),
        "alarms": {_label(run): causes for run, causes in sound.items() if causes},
        "missed": {
            _label(run): causes[:1] or ["nothing"]
            for run, causes in faulty.items()
            if not causes or causes[0] not in names_of(run)
        },
        "crashes": {_label(run): r["crashed"] for run, r in mine.items() if "crashed" in r},
        "broken": {_label(run): r["broken"] for run, r in mine.items() if r.get("broken")},
    }


def verdicts(results: Results) -> dict[str, Any]:
    """The earliest step from which on the headline was right whenever it was asked for."""
    steps, shares = [], []
    for run, result in results.items():
        if run.tool != "early" or "steps" not in result:
            continue
        names = names_of(run)
        right = [headline in names for headline in result["headlines"]]
        if not right[-1]:
            continue
        since = next((i + 1 for i in range(len(right) - 1, -1, -1) if not right[i]), 0)
        steps.append(result["steps"][since])
        shares.append(result["steps"][since] / result["steps"][-1])
    if not steps:
        return {}
    return {
        "runs": len(steps),
        "median step": median(steps),
        "median share of the run": round(median(shares), 3),
        "within 64 steps": share(step <= 64 for step in steps),
        "in the first half of the run": share(part <= 0.5 for part in shares),
    }


def held(mine: dict[str, Any]) -> dict[str, bool]:
    """Whether the goals were met."""
    return {
        "false alarms ≤ 2 %": mine["false alarms"]["share"] <= 0.02,
        "injected ≥ 80 %": mine["cause first, injected"]["share"] >= 0.8,
        "real ≥ 75 %": mine["cause first, real"]["share"] >= 0.75,
        "precision ≥ 0.8": mine["precision"]["share"] >= 0.8,
        "no crash": mine["crashed"]["hits"] == 0,
    }


def share(flags: Iterable[bool]) -> dict[str, Any]:
    """Hits, n, their share and its 95 % interval."""
    each = list(flags)
    hits, n = sum(each), len(each)
    low, high = wilson(hits, n)
    part = round(hits / n, 3) if n else None
    return {"hits": hits, "n": n, "share": part, "low": round(low, 3), "high": round(high, 3)}


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share. Source: Wilson 1927."""
    if n == 0:
        return 0.0, 1.0
    p, d = hits / n, 1 + z * z / n
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / d
    middle = (p + z * z / (2 * n)) / d
    return max(0.0, middle - half), min(1.0, middle + half)


def table(scores: dict[str, dict[str, Any]]) -> list[str]:
    """A line a measure, a column a tool, in Markdown."""
    measures = [name for name in next(iter(scores.values())) if name != "processor time"]
    lines = ["| | " + " | ".join(scores) + " |", "| --- |" + " --- |" * len(scores)]
    for measure in measures:
        cells = [_cell(seen[measure]) for seen in scores.values()]
        lines.append(f"| {measure} | " + " | ".join(cells) + " |")
    costs = [f"{seen['processor time'] or float('nan'):.2f} ×" for seen in scores.values()]
    return [*lines, "| processor time, whole small runs | " + " | ".join(costs) + " |"]


def _cell(one: dict[str, Any]) -> str:
    if not one["n"]:
        return "–"
    return f"{one['hits']}/{one['n']} = {one['share']:.0%} [{one['low']:.0%}, {one['high']:.0%}]"


def _right(tool: str, run: Run, said: str) -> bool:
    names = names_of(run)
    if tool == "thalweg":
        return said in names
    return any(word in said.lower() for name in names for word in WORDS.get(name, ()))


def _relative_cost(mine: Results, results: Results) -> float | None:
    """Processor time of whole runs over that of the same runs unwatched."""
    pairs = [
        (result["seconds"], bare["seconds"])
        for run, result in mine.items()
        if "seconds" in (bare := results.get(run._replace(tool="none"), {})) and "seconds" in result
    ]
    return round(sum(a for a, _ in pairs) / sum(b for _, b in pairs), 3) if pairs else None


def _wanted() -> list[Run]:
    every, peers = _number("DIAGNOSIS_EVERY", 1), _number("DIAGNOSIS_PEERS", 4)
    runs = list(of_suites("thalweg", _in_half, SEEDS, every))
    early = {"fault": range(1)}
    runs += of_suites("early", _in_half, early, every * _number("DIAGNOSIS_EARLY", 2))
    for tool in ("none", *(name for name in PEERS if importable(name))):
        if peers:
            runs += of_suites(tool, _in_half, PEER_SEEDS, every * peers)
    return runs


def _carried_out(runs: list[Run]) -> Results:
    """The outcome of every run: from the file where it was done before, else now."""
    kept = _kept_file()
    done: Results = {}
    if kept.exists():
        lines = map(json.loads, kept.read_text(encoding="utf-8").splitlines())
        done = {Run(*line["run"]): line["result"] for line in lines}
    left = [run for run in runs if run not in done]
    with kept.open("a", encoding="utf-8") as file, get_context("spawn").Pool(_processes()) as pool:
        for count, (run, result) in enumerate(pool.imap_unordered(_one, left), 1):
            done[run] = result
            file.write(json.dumps({"run": run, "result": result}) + "\n")
            file.flush()
            if count % 50 == 0:
                print(f"{count} of {len(left)} runs", file=sys.stderr)
    return {run: done[run] for run in runs}


def _one(run: Run) -> tuple[Run, dict[str, Any]]:
    return run, outcome(run)


def _kept_file() -> Path:
    """One file for this state of the package and of the programs."""
    content = hashlib.blake2b(digest_size=6)
    folders = ("src/thalweg/diagnosis", "src/thalweg/observe", "src/thalweg/record")
    for folder in (*folders, "tests/faults", "tests/healthy"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            content.update(path.read_bytes())
    return Path(tempfile.gettempdir()) / f"thalweg-diagnosis-{content.hexdigest()}.jsonl"


def _in_half(part: str, base: str) -> bool:
    split = json.loads((ROOT / "tests" / "faults" / "split.json").read_text(encoding="utf-8"))
    return _half() == "all" or base in split[_half()][part]


def _half() -> str:
    return os.environ.get("DIAGNOSIS_HALF", "all")


def _processes() -> int:
    return _number("DIAGNOSIS_PROCESSES", 2)


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


def _label(run: Run) -> str:
    return "/".join(part for part in (run.suite, run.name, run.base, str(run.seed)) if part)
