"""The tables in this folder's README.md and in the project's, made of what results/ holds.

A result takes its place by `claim`, such as "C4", with `goal` and `measured`, a phrase each, `held`
and `n`; `workload` may say it better than the list here. The project's page shows times and rates
of those in `FOR_READERS`. Two scripts may stand for one claim.
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
    "Q1": ("SCAN: simple, by length, jump", "≥ 99.8 %, ≤ 25 %, ≤ 5 %, each in ≤ 120 s"),
    "F1": ("forecasts of real series", "≤ seasonal naive and boosted trees on 2 of 3"),
    "S1": ("2 ranks on 2 cores (gloo)", "one process's loss curve to 1e-5"),
}
SHORT_HEAD = """\
| on two cores | thalweg | others |
| --- | --- | --- |
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
    """What a reader waits for, here and elsewhere, in Markdown; in the order of `FOR_READERS`."""
    found = {result["claim"]: result for result in _claims(results)}
    rows = [row(found[claim]) for claim, row in FOR_READERS.items() if claim in found]
    return SHORT_HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


Row = tuple[str, str, str]  # workload, here, elsewhere


def _photographs(found: Mapping[str, Any]) -> Row:
    runs = found["runs"]

    def said(name: str) -> str:
        return f"{runs[name]['wall']:.0f} s, {runs[name]['accuracy']:.1%}"

    peers = " · ".join(f"{name} {said(name)}" for name in ("fastai", "lightning", "ultralytics"))
    ours = f"{said('thalweg')}; or {said('thalweg, one small pass')}"
    return "2,500 photographs to a saved ResNet-18: time, accuracy", ours, peers


def _cifar(found: Mapping[str, Any]) -> Row:
    run, (peer, ratio) = found["runs"]["thalweg"], next(iter(found["theirs to ours"].items()))
    return "CIFAR-10 to 94 %", f"{run['wall']:.0f} s", f"{peer}: {ratio} × as long"


def _first_batch(found: Mapping[str, Any]) -> Row:
    seconds = found["seconds"]
    ours, theirs = (f"{seconds[name]['wall']:.1f} s" for name in ("thalweg", "fastai"))
    return "the first batch of 10,000 JPEGs", ours, f"fastai {theirs}"


def _batches(found: Mapping[str, Any]) -> Row:
    ours, plain, best = (
        f"{1e6 / found['µs an image'][name]:,.0f} images/s"
        for name in ("thalweg", "ImageFolder, plain", "ImageFolder, knowing")
    )
    workload = "augmented batches of 128 px images, from the second epoch on"
    return workload, ours, f"torchvision's ImageFolder {plain}, with its best flags {best}"


def _step(found: Mapping[str, Any]) -> Row:
    ours, theirs = (f"{found['images a second'][name]} images/s" for name in ("ours", "default"))
    return "training ResNet-18 on 128 px images", ours, f"PyTorch as it comes {theirs}"


def _softmax(found: Mapping[str, Any]) -> Row:
    times = found["to the same loss"]["within 0.01 of the best"]
    ours, theirs = (f"{times[f'{name}, s']:.1f} s" for name in ("ours", "scikit-learn"))
    return "softmax regression, 50,000 × 512, to the same loss", ours, f"scikit-learn {theirs}"


def _watching(found: Mapping[str, Any]) -> Row:
    workload = "watching a loop of your own, here a small MLP's"
    return workload, f"{found['measured']} the time of a step", "not watched 1 ×"


FOR_READERS = {
    "C4": _photographs,
    "C3": _cifar,
    "C9": _first_batch,
    "C5": _batches,
    "C2": _step,
    "C7": _softmax,
    "C1": _watching,
}


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
