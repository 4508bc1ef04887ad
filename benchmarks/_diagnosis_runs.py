"""The runs on which diagnoses are scored: one function call a run, a dictionary out.

A run is (tool, suite, name, base, seed). Tools: "thalweg"; "none", which watches nothing; "early",
which is thalweg asked again and again while the run goes on; and the peers. Runs that broke are
results too.
"""

import contextlib
import hashlib
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from time import process_time
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from faults.faults import FAULTS, faulty  # noqa: E402
from faults.programs import run as run_program  # noqa: E402
from faults.real.run import REAL, TIERS  # noqa: E402
from faults.real.run import run as run_real  # noqa: E402
from healthy import loops  # noqa: E402
from healthy.programs import RUNS, sound  # noqa: E402

from benchmarks._diagnosis_peers import PEERS, Listener  # noqa: E402
from thalweg.diagnosis import diagnose  # noqa: E402
from thalweg.observe import watch  # noqa: E402

LOOPS = {loop.__name__: loop for loop in loops.LOOPS}
REAL_BY_TIER = {tier: frozenset(programs) for tier, programs in TIERS.items()}
PAIRS = [(name, base) for name, fault in FAULTS.items() for base in fault.bases]


class Run(NamedTuple):
    """One training under one tool."""

    tool: str
    suite: str  # "sound", "loop", "fault", "asked" (a person's program), "repaired"
    name: str
    base: str
    seed: int


def outcome(run: Run) -> dict[str, Any]:
    """What the tool said, how long it took, and the digest of the weights that came out."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    began = process_time()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found, model = _train(run)
    except Exception as error:
        return {"crashed": f"{type(error).__name__}: {error}"[:200]}
    result: dict[str, Any] = {"seconds": round(process_time() - began, 3), "weights": model}
    if run.tool == "early":
        return result | {"steps": found[0], "headlines": found[1]}
    if isinstance(found, list):
        return result | {"causes": found[:20]}
    if found is None:
        return result
    broken = [w for w in found.not_checked.values() if "rule itself failed" in w or "broke:" in w]
    return result | {"causes": [one.rule for one in found.causes], "broken": broken[:3]}


def _train(run: Run) -> tuple[Any, str]:
    seen: list[torch.nn.Module] = []

    def listen(model: torch.nn.Module, optimizer: Any, p: Any) -> Any:
        seen.append(model)
        return _tool(run.tool, model, optimizer, p)

    if run.suite in ("asked", "repaired"):
        found, _ = run_real(run.name, fixed=run.suite == "repaired", seed=run.seed, listen=listen)
    elif run.suite == "loop":
        found = _loop(run, seen)
    else:
        p = (sound if run.suite == "sound" else faulty)(run.name, run.base, run.seed)
        found, _ = run_program(p, listen=listen)
    return found, _digest(seen[0])


def _loop(run: Run, seen: list[torch.nn.Module]) -> Any:
    """One of the hand-written loops, with another tool in the place of `watch`."""

    def instead(model: torch.nn.Module, optimizer: Any, **told: Any) -> Any:
        seen.append(model)
        if run.tool == "thalweg":
            return watch(model, optimizer, **told)
        first = optimizer if isinstance(optimizer, torch.optim.Optimizer) else optimizer[0]
        with torch.random.fork_rng(devices=[]):  # else the shuffling would go on from elsewhere
            batches = [batch for batch in told.get("train", ()) if len(batch) == 2][:20]
        classes = told.get("num_classes")
        return _other(run.tool, model, first, SimpleNamespace(num_classes=classes, batches=batches))

    torch.manual_seed(run.seed)
    before = loops.watch
    loops.watch = instead
    try:
        return LOOPS[run.name]()
    finally:
        loops.watch = before


def _tool(tool: str, model: torch.nn.Module, optimizer: Any, p: Any) -> Any:
    if tool in ("thalweg", "early"):
        watcher = watch(model, optimizer, diagnose=diagnose, **_told(p))
        return watcher if tool == "thalweg" else Early(watcher)
    data = getattr(p, "train", None) or p.data
    size = getattr(p, "batch_size", None) or p.batch
    starts = range(0, min(len(data[0]), 640), size)
    batches = [[t[i : i + size] for t in data] for i in starts]
    about = SimpleNamespace(num_classes=getattr(p, "num_classes", None), batches=batches)
    return _other(tool, model, optimizer, about)


def _other(tool: str, model: torch.nn.Module, optimizer: Any, about: Any) -> Any:
    return (
        Nobody(model, optimizer, about) if tool == "none" else PEERS[tool](model, optimizer, about)
    )


class Nobody(Listener):
    """Watches nothing: the run by itself."""

    def step(self, loss: Any, batch: Any = None, logits: Any = None) -> None: ...

    def diagnose(self) -> Any:
        return None


class Early:
    """Asks for the diagnosis at 8, 16, 32, … steps, and at the end."""

    def __init__(self, watcher: Any) -> None:
        self.watcher, self.count = watcher, 0
        self.steps: list[int] = []
        self.headlines: list[str] = []

    def step(self, loss: Any, batch: Any = None) -> None:
        self.watcher.step(loss, batch)
        self.count += 1
        if self.count >= 8 and self.count & (self.count - 1) == 0:
            self._ask()

    def log(self, **named: Any) -> None:
        self.watcher.log(**named)

    def diagnose(self) -> tuple[list[int], list[str]]:
        self._ask()
        return self.steps, self.headlines

    def _ask(self) -> None:
        headline = self.watcher.diagnose().headline
        self.steps.append(self.count)
        self.headlines.append("" if headline is None else headline.rule)


def _told(p: Any) -> dict[str, Any]:
    """What the program's author passes to `watch`."""
    from torch.utils.data import DataLoader, TensorDataset

    if hasattr(p, "told"):
        train = DataLoader(
            TensorDataset(*p.train), p.batch_size, shuffle=p.shuffle, drop_last=p.drop_last
        )
        val = DataLoader(TensorDataset(*p.val), 256)
        about = {"loss_fn": p.loss_fn, "train": train, "val": val, "num_classes": p.num_classes}
        return {name: about[name] for name in p.told}
    train = DataLoader(TensorDataset(*p.data), p.batch, shuffle=p.shuffle)
    held = {"val": DataLoader(TensorDataset(*p.held), 256)} if p.held else {}
    return {"loss_fn": p.loss_fn, "train": train, **held}


def _digest(model: torch.nn.Module) -> str:
    content = hashlib.blake2b(digest_size=8)
    for tensor in model.state_dict().values():
        content.update(tensor.detach().contiguous().view(-1).numpy().tobytes())
    return content.hexdigest()


def names_of(run: Run) -> tuple[str, ...]:
    """The rules that name the cause in that run."""
    return REAL[run.name].names if run.suite == "asked" else FAULTS[run.name].names


def updates(run: Run) -> int:
    """Steps of a fault's run."""
    p = faulty(run.name, run.base, run.seed)
    return p.epochs * ceil(len(p.train[0]) / p.batch_size) // p.accumulate


def of_suites(
    tool: str, bases: Callable[[str, str], bool], seeds: dict[str, range], every: int = 1
) -> Iterator[Run]:
    """Every n-th run of each suite; `bases(part, base)` says whether a base is wanted."""
    suites: dict[str, list[tuple[str, str]]] = {
        "sound": [pair for pair in RUNS if bases("healthy", pair[1])],
        "loop": [(name, "") for name in LOOPS],
        "fault": [pair for pair in PAIRS if bases("faults", pair[1])],
        "asked": [(name, "") for name in REAL],
        "repaired": [(name, "") for name in REAL],
    }
    for suite, pairs in suites.items():
        for seed in seeds.get(suite, range(0)):
            yield from (Run(tool, suite, *pair, seed) for pair in pairs[seed % every :: every])
