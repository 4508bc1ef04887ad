"""What was measured, kept for the next run of the same model and batch on the same machine.

One file a question, in `plans` of the cache directory. A question holds all that the answer may
depend on: processor, cores, device, threads, torch, model, shapes, loss, start and what is fixed. A
run's length is part of it, too: the same command is answered the same way every time.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from thalweg.data.cache import PLANS, default_cache_dir
from thalweg.record.environment import environment
from thalweg.training.contest import Row, Subject
from thalweg.training.plan import Measured, measured
from thalweg.training.setting import Setting

FORMAT = 1  # raise it when what is measured, or how, has changed


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
    for path in () if fresh else (of_this, of_any_length):
        found = _read(path)
        if found is not None and (found.rows or not always):
            _write(of_this, found)
            return found
    found = measured(subject, start, steps=steps, fixed=fixed, always=always)
    _write(of_this, found)
    if found.rows:
        _write(of_any_length, found)
    return found


def _question(subject: Subject, start: Setting, fixed: frozenset[str]) -> list[object]:
    inputs, targets = subject.batch
    device = inputs.device
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    shapes = [list(weight.shape) for weight in subject.model.parameters()]
    machine = [environment()["processor"], sorted(os.sched_getaffinity(0)), gpu, str(device)]
    threads = [torch.get_num_threads(), torch.__version__, FORMAT]
    batch = [list(inputs.shape), str(inputs.dtype), list(targets.shape), str(targets.dtype)]
    model = [repr(subject.model), shapes, _name_of(subject.loss_fn)]
    return [machine, threads, batch, model, asdict(start), sorted(fixed)]


def _name_of(loss_fn: object) -> str:
    """What tells losses apart; not where one lies in memory."""
    if isinstance(loss_fn, partial):
        return f"{_name_of(loss_fn.func)} {loss_fn.args} {loss_fn.keywords}"
    return str(getattr(loss_fn, "__qualname__", type(loss_fn).__qualname__))


def _file(question: list[object]) -> Path:
    digest = blake2b(json.dumps(question).encode(), digest_size=16).hexdigest()
    return default_cache_dir() / PLANS / f"{digest}.json"


def _read(path: Path) -> Measured | None:
    """None where there is none, or none that can be read."""
    try:
        stored: dict[str, Any] = json.loads(path.read_bytes())
        rows = tuple(Row(Setting(**setting), *rest) for setting, *rest in stored["rows"])
        return Measured(chosen=Setting(**stored["chosen"]), rows=rows, note=stored["note"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(path: Path, found: Measured) -> None:
    """Whole or not at all; a cache that cannot be written costs only time."""
    rows = [[asdict(row.setting), *row[1:]] for row in found.rows]
    text = json.dumps({"chosen": asdict(found.chosen), "rows": rows, "note": found.note})
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
