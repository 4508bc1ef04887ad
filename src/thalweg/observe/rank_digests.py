"""Compare what several ranks train on and arrive at, without waiting for any of them.

At each reading a rank writes a digest of some hundred numbers into the store with which the process
group was started, and reads the digests that the others have written by then. Nothing here is a
collective: a rank that is alone, late or gone is not compared.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from math import dist, isfinite
from threading import Thread
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.observe.local_shard import is_distributed, whole_value
from thalweg.observe.spaced_entries import spaced_entries
from thalweg.record import History
from thalweg.record.quantities import LOSS, RANK_DISTANCE, RANK_LOSS, RANK_LOSS_ERROR, SAME_BATCHES

PATIENCE = 1.0  # seconds for the store to answer; after one failure it is not asked again
PEERS = 7  # other ranks that one rank compares itself with
WEIGHTS, ENTRIES = 16, 8  # weights, and numbers of each, that stand for the model
INPUTS = 64  # numbers that stand for a batch
RECENT = 64  # losses that are averaged
Digest = dict[str, Any]

_watchers: Counter[str] = Counter()  # in this process, by structure and collectives before


class RankDigests:
    """Writes this rank's digests, and the differences from others' into the history."""

    def __init__(self, model: nn.Module, history: History) -> None:
        self._history = history
        parameters = [(n, w) for n, w in model.named_parameters() if w.is_floating_point()]
        lazy = any(nn.parameter.is_lazy(w) for _, w in parameters)  # without a shape yet
        shards = any(is_distributed(w) for _, w in parameters) or _is_fsdp(model)
        comparable = not (lazy or shards)
        self._weights = [w for _, w in parameters[:WEIGHTS]] if comparable else []
        self._structure = "" if lazy else str([(n, tuple(w.shape)) for n, w in parameters])
        self._name = _unique_name(self._structure) if self._weights else ""
        self._own: dict[int, Digest] = {}  # by step: not compared yet
        self._start: list[float] = []
        self._losses = 0  # those that have been averaged

    def begin(self) -> None:
        """Note the weights from which this rank starts: before the first update."""
        self._start = self._entries() if self._weights and _store() is not None else []

    def record(self, step: int, inputs: Tensor | None) -> None:
        """Write the digest of this reading; compare those of earlier ones."""
        store = _store() if self._weights else None
        if store is None:
            return
        digest = self._own[step] = self._digest(inputs)
        text = json.dumps(digest)
        if not _answered(lambda: store.set(self._key(step, _rank()), text)):
            self._weights = []
            return
        self.compare()

    def compare(self) -> None:
        """Record the differences at the readings that others have reached as well."""
        store = _store() if self._weights else None
        if store is None:
            return
        others: dict[int, dict[int, Digest]] = {}
        if not _answered(lambda: others.update(self._digests_of_others(store))):
            self._weights = []
            return
        for step in sorted(others):
            self._compare(step, others[step])
            self._own = {later: digest for later, digest in self._own.items() if later > step}

    def _digests_of_others(self, store: Any) -> dict[int, dict[int, Digest]]:
        """Digests by step and rank; `check` does not wait, and `get` then need not either."""
        peers = _peers()
        keys = {step: {rank: self._key(step, rank) for rank in peers} for step in self._own}
        ready = {s: k for s, k in keys.items() if k and store.check(list(k.values()))}
        return {
            s: {r: json.loads(store.get(key)) for r, key in k.items()} for s, k in ready.items()
        }

    def _compare(self, step: int, others: dict[int, Digest]) -> None:
        own = self._own[step]
        alike = all(
            one[key] == own[key] for one in others.values() for key in ("structure", "start")
        )
        moved = _distance(own["weights"], own["start"])
        if not alike or not moved > 0:  # other parts of one model, or other models
            return
        away = max(_distance(other["weights"], own["weights"]) for other in others.values())
        self._history.add(RANK_DISTANCE, step, {"": away / moved})
        if own["inputs"]:
            same = all(other["inputs"] == own["inputs"] for other in others.values())
            self._history.add(SAME_BATCHES, step, {"": float(same)})
        every = others | {_rank(): own}
        if all(digest["loss"] is not None for digest in every.values()):
            means = {str(rank): every[rank]["loss"][0] for rank in sorted(every)}
            errors = {str(rank): every[rank]["loss"][1] for rank in sorted(every)}
            self._history.add(RANK_LOSS, step, means)
            self._history.add(RANK_LOSS_ERROR, step, errors)

    def _digest(self, inputs: Tensor | None) -> Digest:
        batch = None if inputs is None else whole_value(inputs.detach())
        return {
            "structure": self._structure,
            "start": self._start,
            "weights": self._entries(),
            "inputs": "" if batch is None else repr(spaced_entries(batch, INPUTS).tolist()),
            "loss": self._recent_loss(),
        }

    def _recent_loss(self) -> tuple[float, float] | None:
        """Mean and standard error of the last losses; None of few, or if none is new.

        Those that are in the history: the latest are still on their device.
        """
        series = self._history.series(LOSS)
        if self._history.count(LOSS) < self._losses + RECENT:
            return None
        self._losses = self._history.count(LOSS)
        values = torch.tensor(list(series.values())[-RECENT:], dtype=torch.float64)
        mean, error = float(values.mean()), float(values.std()) / RECENT**0.5
        return (mean, error) if isfinite(mean) and isfinite(error) else None

    def _entries(self) -> list[float]:
        parts = [spaced_entries(w.detach(), ENTRIES).flatten().double() for w in self._weights]
        return torch.cat(parts).tolist()

    def _key(self, step: int, rank: int) -> str:
        return f"thalweg/{self._name}/{step}/{rank}"


def _unique_name(structure: str) -> str:
    """One name on all ranks for the watchers of one model: by its structure, and their order.

    The order counts within one state of the process group, since a rank may watch what others do
    not: it would else be compared with another training of the same structure.
    """
    digest = blake2b(structure.encode(), digest_size=8).hexdigest()
    place = f"{digest}-{_collectives()}"
    _watchers[place] += 1
    return f"{place}-{_watchers[place]}"


def _collectives() -> int:
    """Collectives that this rank has begun: as many on every rank, and known without asking."""
    if _store() is None:
        return 0
    try:
        group: Any = torch.distributed.distributed_c10d._get_default_group()
        return int(group._get_sequence_number_for_group())
    except (AttributeError, RuntimeError):  # a backend that does not count
        return 0


def _distance(first: list[float], second: list[float]) -> float:
    """Euclidean; NaN where there is nothing to compare."""
    if not first or len(first) != len(second):
        return float("nan")
    return dist(first, second)


def _store() -> Any:
    """The store of the default process group; None without one, or without other ranks."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    if distributed.get_world_size() < 2:
        return None
    find = getattr(distributed.distributed_c10d, "_get_default_store", None)
    return None if find is None else find()


def _rank() -> int:
    return torch.distributed.get_rank()


def _peers() -> list[int]:
    """Some other ranks, evenly spaced."""
    size, own = torch.distributed.get_world_size(), _rank()
    number = min(PEERS, size - 1)
    return sorted({(own + 1 + i * (size - 1) // number) % size for i in range(number)} - {own})


def _answered(ask: Callable[[], Any]) -> bool:
    """True if the store answered in time and without an error."""
    failures: list[Exception] = []

    def run() -> None:
        try:
            ask()
        except Exception as error:
            failures.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return not thread.is_alive() and not failures


def _is_fsdp(model: nn.Module) -> bool:
    return any(type(one).__name__ == "FullyShardedDataParallel" for one in model.modules())
