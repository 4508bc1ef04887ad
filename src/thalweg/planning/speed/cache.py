"""What was measured, kept for the next run of the same model and batch on the same machine.

One file a question, in `plans` of the cache directory. A question holds all that the answer may
depend on: processor, cores, device and driver, threads, torch, model, shapes, loss, start and what
is fixed. A run's length is part of it, too: the same command is answered the same way every time,
but for one thing: what was measured beside other work is measured again once that is over.
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
from thalweg.data.images.cache import PLANS, default_cache_dir
from thalweg.planning.speed.autotune import Measured, measured
from thalweg.planning.speed.benchmark import Row
from thalweg.record.environment import environment
from thalweg.training.numerics import Setting

FORMAT = 3  # raise it when what is measured, or how, has changed
BUSY = 0.75  # processes to a core, from which on a measurement is one of them, too
CALMER = 0.5  # of the load of then: worth another look
_DRIVER = Path("/proc/driver/nvidia/version")


def remembered(
    subject: Subject,
    start: Setting,
    *,
    steps: int,
    fixed: frozenset[str] = frozenset(),
    always: bool = False,
    fresh: bool = False,
) -> Measured:
    """As `measured`, from the cache where it is known, unless `fresh`; kept where it is new."""
    question = _question(subject, start, fixed)
    of_any_length, of_this = _file(question), _file([*question, steps])
    now = load()
    for path in () if fresh else (of_this, of_any_length):
        kept = _read(path)
        if kept is not None and kept.is_sound(now) and (kept.found.rows or not always):
            _write(of_this, kept)
            return kept.found
    found = measured(subject, start, steps=steps, fixed=fixed, always=always)
    _write(of_this, Kept(found, now))
    if found.rows:
        _write(of_any_length, Kept(found, now))
    return found


class Kept(NamedTuple):
    """What was measured, and how busy the machine was when that began."""

    found: Measured
    load: float  # processes to a core, mean of the minute before

    def is_sound(self, now: float) -> bool:
        """Whether it holds at that load: not if others took the cores, and are gone."""
        return not self.found.rows or self.load < BUSY or now > CALMER * self.load


def load() -> float:
    """Processes that ran or wanted to, for each core, mean of the last minute."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def _question(subject: Subject, start: Setting, fixed: frozenset[str]) -> list[object]:
    inputs, targets = subject.batches[0]
    shapes = [list(weight.shape) for weight in subject.model.parameters()]
    machine = [environment()["processor"], sorted(os.sched_getaffinity(0)), *_gpu(inputs.device)]
    threads = [torch.get_num_threads(), torch.__version__, FORMAT]
    batch = [list(inputs.shape), str(inputs.dtype), list(targets.shape), str(targets.dtype)]
    model = [repr(subject.model), shapes, _name_of(subject.loss_fn)]
    return [machine, threads, batch, model, asdict(start), sorted(fixed)]


def _gpu(device: torch.device) -> list[object]:
    """The device, its name, and the versions of what drives it; the device alone if it is none."""
    if device.type != "cuda":
        return [str(device)]
    driver = _DRIVER.read_text(encoding="utf-8") if _DRIVER.exists() else ""
    versions = [torch.version.cuda, torch.version.hip, torch.backends.cudnn.version(), driver]
    return [str(device), torch.cuda.get_device_name(device), *versions]


def _name_of(loss_fn: object) -> str:
    """What tells losses apart; not where one lies in memory."""
    if isinstance(loss_fn, partial):
        return f"{_name_of(loss_fn.func)} {loss_fn.args} {loss_fn.keywords}"
    return str(getattr(loss_fn, "__qualname__", type(loss_fn).__qualname__))


def _file(question: list[object]) -> Path:
    digest = blake2b(json.dumps(question).encode(), digest_size=16).hexdigest()
    return default_cache_dir() / PLANS / f"{digest}.json"


def _read(path: Path) -> Kept | None:
    """None where there is none, or none that can be read."""
    try:
        stored: dict[str, Any] = json.loads(path.read_bytes())
        rows = tuple(Row(Setting(**setting), *rest) for setting, *rest in stored["rows"])
        found = Measured(chosen=Setting(**stored["chosen"]), rows=rows, note=stored["note"])
        return Kept(found, float(stored["load"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(path: Path, kept: Kept) -> None:
    """Whole or not at all; a cache that cannot be written costs only time."""
    found = kept.found
    rows = [[asdict(row.setting), *row[1:]] for row in found.rows]
    values = {"chosen": asdict(found.chosen), "rows": rows, "note": found.note, "load": kept.load}
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(values), encoding="utf-8")
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
