"""Cache of autotuned numerics, for the next run of the same model and batch on this machine.

One file a key, in `plans` of the cache directory. The key holds all that the result may depend on:
processor, cores, device and driver, threads, torch, model, shapes, loss, start and fixed fields.
The length of the run is part of it, too, so that the same command always gets the same result; only
what was measured on a busy machine is measured again once the load has gone.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import torch

from thalweg.borrow import Subject
from thalweg.data.batch import tensors_of
from thalweg.data.images.cache import PLANS, default_cache_dir
from thalweg.files import read_json_object, replace_file
from thalweg.planning.speed.autotune import AutotuneResult, autotune
from thalweg.planning.speed.benchmark import NumericsResult
from thalweg.record.environment import environment
from thalweg.training.numerics import Numerics

FORMAT = 3  # increase it when the measurement changes
BUSY = 0.75  # processes per core, from which on a measurement is in doubt
CALMER = 0.5  # share of the load during the measurement: worth another one
_DRIVER = Path("/proc/driver/nvidia/version")


def autotune_cached(
    subject: Subject,
    start: Numerics,
    *,
    steps: int,
    fixed: frozenset[str] = frozenset(),
    always: bool = False,
    fresh: bool = False,
) -> AutotuneResult:
    """Autotune, or take the cached result unless `fresh`; a new result is cached."""
    key = _key(subject, start, fixed)
    of_any_length, of_this_length = _file(key), _file([*key, steps])
    load = load_per_core()
    for path in () if fresh else (of_this_length, of_any_length):
        entry = _read(path)
        if entry is not None and entry.is_valid(load) and (entry.result.rows or not always):
            _write(of_this_length, entry)
            return entry.result
    result = autotune(subject, start, steps=steps, fixed=fixed, always=always)
    _write(of_this_length, Entry(result, load))
    if result.rows:
        _write(of_any_length, Entry(result, load))
    return result


class Entry(NamedTuple):
    """A result, and the load of the machine when its measurement began."""

    result: AutotuneResult
    load: float  # processes per core, mean of the minute before

    def is_valid(self, load: float) -> bool:
        """False if other processes took the cores then, and are gone at the present load."""
        return not self.result.rows or self.load < BUSY or load > CALMER * self.load


def load_per_core() -> float:
    """Runnable processes per core, mean of the last minute."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def _key(subject: Subject, start: Numerics, fixed: frozenset[str]) -> list[object]:
    inputs, targets = subject.batches[0]
    shapes = [list(weight.shape) for weight in subject.model.parameters()]
    machine = [environment()["processor"], sorted(os.sched_getaffinity(0)), *_gpu(targets.device)]
    threads = [torch.get_num_threads(), torch.__version__, FORMAT]
    tensors = (*tensors_of(inputs), targets)
    batch = [value for t in tensors for value in (list(t.shape), str(t.dtype))]
    model = [repr(subject.model), shapes, _name_of(subject.loss_fn)]
    return [machine, threads, batch, model, asdict(start), sorted(fixed)]


def _gpu(device: torch.device) -> list[object]:
    """The device, its name and driver versions; for a CPU the device alone."""
    if device.type != "cuda":
        return [str(device)]
    driver = _DRIVER.read_text(encoding="utf-8") if _DRIVER.exists() else ""
    versions = [torch.version.cuda, torch.version.hip, torch.backends.cudnn.version(), driver]
    return [str(device), torch.cuda.get_device_name(device), *versions]


def _name_of(loss_fn: object) -> str:
    """A name for the loss without its memory address."""
    if isinstance(loss_fn, partial):
        return f"{_name_of(loss_fn.func)} {loss_fn.args} {loss_fn.keywords}"
    return str(getattr(loss_fn, "__qualname__", type(loss_fn).__qualname__))


def _file(key: list[object]) -> Path:
    digest = blake2b(json.dumps(key).encode(), digest_size=16).hexdigest()
    return default_cache_dir() / PLANS / f"{digest}.json"


def _read(path: Path) -> Entry | None:
    """The entry; None if it is missing or unreadable."""
    try:
        stored: dict[str, Any] = read_json_object(path)
        rows = tuple(NumericsResult(Numerics(**fields), *rest) for fields, *rest in stored["rows"])
        chosen = Numerics(**stored["chosen"])
        result = AutotuneResult(chosen=chosen, rows=rows, note=stored["note"])
        return Entry(result, float(stored["load"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(path: Path, entry: Entry) -> None:
    """Write the entry whole or not at all; a cache that cannot be written costs only time."""
    result = entry.result
    rows = [[asdict(row.numerics), *row[1:]] for row in result.rows]
    chosen = asdict(result.chosen)
    values = {"chosen": chosen, "rows": rows, "note": result.note, "load": entry.load}
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(values))
