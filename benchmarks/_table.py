"""The tables in this folder's README.md and in the project's, made of what results/ holds.

A result takes its place by `claim`, such as "C4", with `goal` and `measured`, a phrase each, `held`
and `n`; `workload` may say it better than the list here, and `in_short` what the project's page
says of it. Two scripts may stand for one claim.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
BEGIN, END = "<!-- goals: begin -->\n", "<!-- goals: end -->\n"
NOT_MEASURED = "not measured"
GOALS = {  # claim → workload, what is to be reached; where no script has said it better
    "C1": ("a step of MLP 784-128-10, batches of 32, watched", "≤ 1.03 × a raw loop's"),
    "C2": ("a step of ResNet-18, 128 px, batches of 32", "≥ 2.4 × as fast as PyTorch's default"),
    "C3": ("CIFAR-10 to 94 %", "≥ 1.8 × airbench94's speed in fp32, ≤ 400 s"),
    "C4": ("2,500 photographs to a saved ResNet-18", "≥ 3 × fastai, ≥ 4 × Lightning"),
    "C5": ("batches of augmented 128 px images, epoch ≥ 2", "≥ 10 × ImageFolder's"),
    "C7": ("softmax regression, 50,000 × 512", "≥ 5 × scikit-learn's speed"),
    "C9": ("first batch of 10,000 JPEGs", "≤ 1/3 of fastai's time"),
    "G1": ("CIFAR-10 to 94 % on a GPU, warm", "≤ 0.78 × airbench94_muon's time"),
    "G2": ("CIFAR-10 to 94 % on a GPU, from exec", "≤ 1/3 of airbench94_muon's time"),
    "G3": ("ResNet-50, 224 px, from JPEG, on a GPU", "≥ 0.95 × its speed on made-up images"),
    "S1": ("2 ranks on 2 cores (gloo)", "one process's loss curve to 1e-5"),
}
IN_SHORT = {  # claim → what `measured` is put into for the project's page
    "C1": "{} a raw loop's CPU time",
    "C2": "{} PyTorch's default speed",
    "C7": "scikit-learn's time to its loss: {}",
    "S1": "losses {}",
}
SHORT_HEAD = """\
| on two cores | measured |
| --- | --- |
"""
HEAD = """\
| # | workload | goal | measured | held | n | `python -m benchmarks` … |
| --- | --- | --- | --- | --- | --- | --- |
"""


def write(folder: Path = FOLDER) -> None:
    """Put the tables of today's results into both pages."""
    _put(folder / "README.md", table(folder / "results"))
    _put(folder.parent / "README.md", short_table(folder / "results"))


def _put(page: Path, rows: str) -> None:
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(before + BEGIN + rows + END + after, encoding="utf-8")


def short_table(results: Path) -> str:
    """What was measured, whether a goal was reached or not, in Markdown."""
    rows = sorted((found["claim"], *_in_short(found)) for found in _claims(results))
    return SHORT_HEAD + "".join(f"| {workload} | {said} |\n" for _, workload, said in rows)


def _in_short(found: Mapping[str, Any]) -> tuple[str, str]:
    frame = IN_SHORT.get(found["claim"], "{}")
    said = found.get("in_short") or frame.format(found["measured"])
    return found.get("workload") or GOALS[found["claim"]][0], said


def table(results: Path) -> str:
    """Every goal with what was measured, in Markdown."""
    rows = sorted(_rows(_claims(results)))
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _claims(results: Path) -> list[Mapping[str, Any]]:
    found = [json.loads(path.read_bytes()) for path in sorted(results.glob("*.json"))]
    return [result for result in found if "claim" in result]


def _rows(found: list[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for result in found:
        claim = result["claim"]
        workload = result.get("workload") or GOALS[claim][0]
        held = "yes" if result["held"] else "no"
        script = f"`{result['benchmark']}`"
        yield claim, workload, result["goal"], result["measured"], held, str(result["n"]), script
    for claim in GOALS.keys() - {result["claim"] for result in found}:
        yield claim, *GOALS[claim], NOT_MEASURED, "", "", ""
