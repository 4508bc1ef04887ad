"""How often the diagnosis alarms on sound runs and names the cause in faulty ones; peers beside us.

Claims: false alarms ≤ 2 % of sound runs; the headline names the cause in ≥ 80 % of injected faults
and ≥ 75 % of people's own programs; no crash. Runs are those of tests/faults and tests/healthy.
A peer that cannot be imported is left out; each runs at its defaults, on the same programs and
seeds. Peers are graded leniently: any word of the fault in any finding counts as named.

Environment: DIAGNOSIS_HALF=development|held_out|all (tests/faults/split.json; all),
DIAGNOSIS_SEED (0), DIAGNOSIS_EVERY=n (every n-th run only; 1), DIAGNOSIS_PEERS=0 to leave them out.
"""

import contextlib
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from math import sqrt
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

TESTS = Path(__file__).parent.parent / "tests"
sys.path.insert(0, str(TESTS))

from faults.faults import FAULTS, faulty  # noqa: E402
from faults.programs import Program, run  # noqa: E402
from faults.real.programs import REAL  # noqa: E402
from faults.real.programs import run as run_real  # noqa: E402
from healthy.programs import RUNS, sound  # noqa: E402

WORDS = {  # a peer has named the fault if one of these is in what it says
    "missing-zero-grad": ("zero_grad", "accumulat"),
    "weights-not-in-optimizer": ("optimizer", "frozen", "stagnant", "not updat"),
    "frozen-random-weights": ("frozen", "requires_grad", "stagnant"),
    "gradient-never-arrives": ("no grad", "without grad", "detach", "none grad", "zero grad"),
    "wrong-mode-in-training": ("eval mode", "train()"),
    "wrong-mode-in-validation": ("eval()", "train mode"),
    "learning-rate-collapsed": ("schedul", "lr collapse", "decayed"),
    "loss-broadcasts": ("broadcast", "shape"),
    "logits-squashed-twice": ("softmax", "sigmoid"),
    "softmax-over-one-unit": ("softmax",),
    "output-cannot-reach-targets": ("output range", "output activation"),
    "loss-does-not-fit-task": ("loss function", "wrong loss"),
    "loss-summed-over-batch": ("reduction", "summed"),
    "unstable-log": ("log(", "logit"),
    "unscaled-inputs": ("input", "normaliz", "scale"),
    "unscaled-targets": ("target",),
    "inputs-not-finite": ("nan", "inf"),
    "label-noise": ("label",),
    "labels-without-signal": ("label",),
    "class-imbalance": ("imbalance",),
    "unshuffled-batches": ("shuffl", "one class", "single class", "single-class"),
    "train-val-leakage": ("leak", "duplicate"),
    "train-val-shift": ("shift", "distribution"),
    "label-encoding-differs": ("label",),
    "augmentation-destroys-labels": ("augment",),
    "vanishing-gradients": ("vanish",),
    "dead-relu": ("dead", "dying"),
    "saturated-activations": ("saturat",),
    "symmetric-initialisation": ("init", "symmetr"),
    "initialisation-scale": ("init",),
    "initial-loss-above-chance": ("init",),
    "no-nonlinearity": ("linear", "activation function"),
    "learning-rate-too-high": ("lr too high", "learning rate too high", "lower the l", "reduce l"),
    "learning-rate-too-low": ("lr too low", "learning rate too low", "increase l", "raise the l"),
    "stopped-too-early": ("still improving", "more epochs", "train longer"),
    "underfitting": ("underfit",),
    "optimisation-failure": ("vanish", "degrad"),
    "overfitting": ("overfit",),
    "over-regularised": ("regulari", "dropout", "weight decay"),
    "batch-norm-on-tiny-batches": ("batch norm", "batchnorm", "batch size"),
    "learning-rate-restarted": ("restart", "schedul"),
    "loss-oscillates": ("oscillat", "unstable"),
}
Peer = Callable[[torch.nn.Module, Any, Program], Any]


class Listener:
    """What a program calls in place of our watcher; `said` is what the peer found."""

    def __init__(self, model: torch.nn.Module, optimizer: Any, p: Program) -> None:
        self.model, self.optimizer, self.said, self.count = model, optimizer, [], 0

    def step(self, loss: torch.Tensor) -> None:
        self.count += 1

    def log(self, **named: float) -> None: ...

    def diagnose(self) -> list[str]:
        return self.said


class Torchmortem(Listener):
    def __init__(self, model: torch.nn.Module, optimizer: Any, p: Program) -> None:
        super().__init__(model, optimizer, p)
        from torchmortem import Autopsy

        self.autopsy = Autopsy(model, optimizer=optimizer)
        self.autopsy.attach()

    def step(self, loss: torch.Tensor) -> None:
        self.autopsy.step(loss=float(loss.detach()))

    def diagnose(self) -> list[str]:
        self.autopsy.detach()
        report = self.autopsy.get_report()
        found = report.findings if report else []
        loud = [f for f in found if str(f.severity).lower().rpartition(".")[2] != "info"]
        return [f"{f.title} {f.summary} {f.category}" for f in loud]


class Gradsnitch(Listener):
    def __init__(self, model: torch.nn.Module, optimizer: Any, p: Program) -> None:
        super().__init__(model, optimizer, p)
        import gradsnitch

        self.monitor = gradsnitch.watch(model, optimizer, check_every=50)

    def step(self, loss: torch.Tensor) -> None:
        self.monitor.log(self.count, float(loss.detach()))
        self.count += 1

    def diagnose(self) -> list[str]:
        return [str(finding) for finding in self.monitor.report()]


class Traintools(Listener):
    def __init__(self, model: torch.nn.Module, optimizer: Any, p: Program) -> None:
        super().__init__(model, optimizer, p)
        from traintools import BatchInspector, GradientHealthMonitor

        self.batches = BatchInspector(expected_num_classes=p.num_classes)
        self.gradients, self.data = GradientHealthMonitor(), iter(())
        for i in range(0, min(len(p.train[0]), 640), p.batch_size):
            part = [t[i : i + p.batch_size] for t in p.train]
            self.said += self.batches.inspect(*part, step=i).warnings

    def step(self, loss: torch.Tensor) -> None:
        report = self.gradients.inspect(
            self.model, step=self.count, lr=self.optimizer.param_groups[0]["lr"]
        )
        self.count += 1
        if not report.ok:
            self.said.append(str(report))


class TorchAudit(Listener):
    def __init__(self, model: torch.nn.Module, optimizer: Any, p: Program) -> None:
        super().__init__(model, optimizer, p)
        from torch_audit import autopatch

        self.auditor = autopatch(model, optimizer=optimizer, every_n_steps=50, reporters=[])

    def diagnose(self) -> list[str]:
        result = self.auditor.finish(report=False)
        self.auditor.unpatch()
        loud = [f for f in result.findings if str(f.severity).rpartition(".")[2] not in ("INFO",)]
        return [f"{f.rule_id} {f.message}" for f in loud]


PEERS = {
    "torchmortem": Torchmortem,
    "gradsnitch": Gradsnitch,
    "traintools": Traintools,
    "torch_audit": TorchAudit,
}


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share. Source: Wilson 1927."""
    if n == 0:
        return 0.0, 1.0
    p, d = hits / n, 1 + z * z / n
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / d
    middle = (p + z * z / (2 * n)) / d
    return max(0.0, middle - half), min(1.0, middle + half)


def main() -> dict[str, Any]:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    seed = int(os.environ.get("DIAGNOSIS_SEED", "0"))
    tools: dict[str, Any] = {"thalweg": None}
    if os.environ.get("DIAGNOSIS_PEERS", "1") != "0":
        tools |= {name: peer for name, peer in PEERS.items() if _importable(name)}
    results = {name: score(peer, seed) for name, peer in tools.items()}
    print(table(results), file=sys.stderr)
    return {"half": _half(), "seed": seed, "every": _every(), "results": results}


def score(peer: Any, seed: int) -> dict[str, Any]:
    """One tool over the sound programs, the faults and, for us, people's own programs."""
    seen: dict[str, Any] = dict.fromkeys(
        ("sound", "alarmed", "faulty", "flagged", "first", "third", "causes", "right", "crashed"), 0
    )
    seen["missed"], seen["alarms"], began = [], [], perf_counter()
    for name, base in _chosen("healthy", RUNS):
        causes = _causes(lambda: sound(name, base, seed), peer, seen)  # noqa: B023 (called at once)
        if causes is not None:
            seen["sound"] += 1
            seen["alarmed"] += bool(causes)
            seen["alarms"] += [f"{name}/{base}: {causes[0][:60]}"] if causes else []
    pairs = [(name, base) for name, fault in FAULTS.items() for base in fault.bases]
    for name, base in _chosen("faults", pairs):
        causes = _causes(lambda: faulty(name, base, seed), peer, seen)  # noqa: B023
        if causes is not None:
            _grade(seen, causes, FAULTS[name].names, f"{name}/{base}", exact=peer is None)
    seen["seconds"] = round(perf_counter() - began)
    if peer is None:
        seen["real"], seen["real_first"], seen["repaired_alarmed"] = _real(seed)
    return seen


def _grade(
    seen: dict[str, Any], causes: list[str], names: tuple[str, ...], what: str, *, exact: bool
) -> None:
    words = [word for name in names for word in WORDS.get(name, ())]

    def right(said: str) -> bool:
        return said in names if exact else any(word in said.lower() for word in words)

    hits = [right(cause) for cause in causes]
    seen["faulty"] += 1
    seen["flagged"] += bool(causes)
    first = bool(hits) and (hits[0] if exact else any(hits))  # peers do not rank: any will do
    seen["first"] += first
    seen["third"] += any(hits[:3])
    seen["causes"] += min(len(causes), 3)
    seen["right"] += sum(hits[:3])
    seen["missed"] += [] if first else [f"{what}: {causes[0][:60] if causes else 'nothing'}"]


def _real(seed: int) -> tuple[int, int, int]:
    named = alarmed = 0
    for name, program in REAL.items():
        headline = run_real(name, fixed=False, seed=seed)[0].headline
        named += headline is not None and headline.rule in program.names
        alarmed += run_real(name, fixed=True, seed=seed)[0].headline is not None
    return len(REAL), named, alarmed


def _causes(make: Callable[[], Program], peer: Any, seen: dict[str, Any]) -> list[str] | None:
    """What a tool says is wrong with a run, without its notes; None if it broke the run."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found, _ = run(make(), listen=peer)
    except Exception as error:
        seen["crashed"] += 1
        seen["missed"].append(f"crashed: {type(error).__name__}: {error}"[:100])
        return None
    return found if peer is not None else [cause.rule for cause in found.causes]


def _chosen(part: str, pairs: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    split = json.loads((TESTS / "faults" / "split.json").read_text())
    bases = set(split[_half()][part]) if _half() != "all" else {base for _, base in pairs}
    return iter([pair for pair in pairs if pair[1] in bases][:: _every()])


def _half() -> str:
    return os.environ.get("DIAGNOSIS_HALF", "all")


def _every() -> int:
    return int(os.environ.get("DIAGNOSIS_EVERY", "1"))


def _importable(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def table(results: dict[str, dict[str, Any]]) -> str:
    """A line a tool: shares with their 95 % intervals."""
    rows = [("tool", "false alarms", "flags faulty", "cause first", "among three", "precision")]
    for name, seen in results.items():
        pairs = [("alarmed", "sound"), ("flagged", "faulty"), ("first", "faulty")]
        pairs += [("third", "faulty"), ("right", "causes")]
        rows.append((name, *(_share(seen[hits], seen[n]) for hits, n in pairs)))
    return "\n".join("  ".join(cell.ljust(24) for cell in row) for row in rows)


def _share(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f"{hits}/{n} [{low:.0%}, {high:.0%}]"
