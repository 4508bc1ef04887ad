"""Checkpoints, from which a run resumes as if it had never stopped.

A checkpoint is a folder, `step-00000120/`, with `state.safetensors` (weights, buffers, optimizer
state, random state) and `manifest.json` (plain values, and the sha256 of the former). It is written
under a temporary name, flushed to the disk and then renamed, so it exists whole or not at all: a
crash or a full disk always leaves the previous checkpoint intact.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from thalweg.errors import TrainingError
from thalweg.files import check_no_link, check_tensor_file, read_json_object, write_new
from thalweg.optim.ema import WeightAverage
from thalweg.portable import flush_folder
from thalweg.training import state
from thalweg.training.nonfinite import NonFiniteWeightsError, nonfinite_weight

JSON = Any  # what json.dumps takes
FORMAT = 1
_STATE, _MANIFEST = "state.safetensors", "manifest.json"


class UnwritableCheckpointError(TrainingError):
    """The disk takes no checkpoint: it is full, or fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """An intact checkpoint, whose digests were verified."""

    path: Path
    step: int  # the next update to make
    extra: Mapping[str, JSON]
    skipped: Mapping[str, str]  # newer checkpoints that are damaged: folder name → reason
    manifest: Mapping[str, JSON]

    def restore(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: WeightAverage | None = None,
    ) -> None:
        """Restore weights, their average, optimizer and random state, byte for byte.

        Raises: TrainingError if the model or the optimizer differs from the saved one.
        """
        tensors = safetensors.torch.load_file(self.path / _STATE)
        state.restore(
            tensors, self.manifest["state"], model=model, optimizer=optimizer, average=average
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that a checkpoint holds, as copies on the CPU."""

    step: int  # the next update to make
    extra: Mapping[str, JSON]
    tensors: Mapping[str, Tensor]
    plain: Mapping[str, JSON]

    def restore(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: WeightAverage | None = None,
    ) -> None:
        """Restore weights, their average, optimizer and random state, byte for byte."""
        state.restore(self.tensors, self.plain, model=model, optimizer=optimizer, average=average)


def check_weights(model: nn.Module, *, step: int) -> None:
    """Raise NonFiniteWeightsError if a weight is NaN or infinite; `step` is the next update."""
    if bad := nonfinite_weight(model):
        raise NonFiniteWeightsError(bad, step=step)


def take_snapshot(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None = None,
    *,
    step: int,
    extra: Mapping[str, JSON],
) -> Snapshot:
    """Copy the state into memory. Raises: NonFiniteWeightsError if a weight is not finite."""
    check_weights(model, step=step)
    tensors, plain = state.collect(model, optimizer, average)
    return Snapshot(step=step, extra=dict(extra), tensors=tensors, plain=plain)


def write_checkpoint(folder: Path, snapshot: Snapshot) -> Path:
    """Write `folder/step-…` and return its path.

    Raises: UnwritableCheckpointError if the disk is full or fails: the previous checkpoints stay
    intact.
    """
    data = safetensors.torch.save(dict(snapshot.tensors))
    manifest = {
        "format": FORMAT,
        "step": snapshot.step,
        "extra": dict(snapshot.extra),
        "state": snapshot.plain,
        "sha256": {_STATE: sha256(data).hexdigest()},
    }
    with _as_training_error(
        "no checkpoint could be written to", folder, kind=UnwritableCheckpointError
    ):
        check_no_link(folder)
        return _commit(folder, snapshot.step, {_STATE: data, _MANIFEST: _sealed(manifest)})


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    extra: Mapping[str, JSON],
    average: WeightAverage | None = None,
) -> Path:
    """Write `folder/step-…` and return its path; `step` is the next update to make.

    Raises: TrainingError if the disk is full or fails, NonFiniteWeightsError if a weight is NaN or
    infinite. Either way the previous checkpoints stay intact.
    """
    snapshot = take_snapshot(model, optimizer, average, step=step, extra=extra)
    return write_checkpoint(folder, snapshot)


def latest_checkpoint(folder: Path, *, step: int | None = None) -> Checkpoint | None:
    """The newest intact checkpoint, of any step or of `step`; None if there is no checkpoint.

    Raises: TrainingError if every checkpoint is damaged.
    """
    with _as_training_error("no checkpoint can be read from", folder):
        check_no_link(folder)
    skipped: dict[str, str] = {}
    candidates = [path for path in _checkpoints(folder) if step in (None, _order(path)[0])]
    for path in sorted(candidates, key=_order, reverse=True):
        try:
            manifest = _verified(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            skipped[path.name] = str(error) or type(error).__name__
            continue
        return Checkpoint(
            path=path,
            step=manifest["step"],
            extra=manifest["extra"],
            skipped=skipped,
            manifest=manifest,
        )
    if skipped:
        raise TrainingError(
            f"every checkpoint in {folder} is damaged",
            seen="; ".join(f"{name}: {reason}" for name, reason in skipped.items()),
            fix="start a new run, and check the disk",
        )
    return None


def prune(folder: Path, *, keep: int = 2, best: int | None = None) -> None:
    """Delete all checkpoints but the last `keep` and the one of step `best`.

    Raises: TrainingError if the disk fails; the checkpoints to keep stay intact.
    """
    paths = sorted(_checkpoints(folder), key=_order)
    with _as_training_error("old checkpoints could not be deleted from", folder):
        for path in paths[: max(len(paths) - keep, 0)]:
            if _order(path)[0] != best:
                _discard(path)


@contextmanager
def _as_training_error(
    problem: str, folder: Path, *, kind: type[TrainingError] = TrainingError
) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise kind(
            f"{problem} {folder}",
            seen=f"{error.strerror or error}; the previous checkpoints are intact",
            fix="free some space on that disk, or choose another folder with --out",
        ) from error


def _commit(folder: Path, step: int, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    older = [path for path in _checkpoints(folder) if _order(path)[0] == step]
    name = f"step-{step:08d}"
    if older:  # never replaced in place: a crash in between would lose both
        name += f".{max(_order(path)[1] for path in older) + 1}"
    draft = folder / f".draft-{name}"
    try:
        draft.mkdir()
        for file, data in files.items():
            write_new(draft / file, data, flush=True)
        flush_folder(draft)
        draft.rename(folder / name)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)  # gives its space back
        raise
    flush_folder(folder)
    for path in older:
        _discard(path)
    return folder / name


def _discard(path: Path) -> None:
    """Delete a checkpoint, renamed first so that a half-deleted one never looks damaged."""
    trash = path.with_name(f".trash-{path.name}")
    path.rename(trash)
    shutil.rmtree(trash)


def _sweep(folder: Path) -> None:
    """Delete the unfinished folders of a killed process."""
    for pattern in (".draft-*", ".trash-*"):
        for path in folder.glob(pattern):
            shutil.rmtree(path)


def _checkpoints(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("step-*") if path.is_dir())


def _order(path: Path) -> tuple[int, int]:
    """Step and revision, from the name."""
    step, _, revision = path.name.removeprefix("step-").partition(".")
    return (int(step), int(revision or 0)) if step.isdigit() else (-1, 0)


def _sealed(manifest: Mapping[str, JSON]) -> bytes:
    """The manifest as JSON with its own digest: one flipped digit in a learning rate shows too."""
    body = json.dumps(manifest)
    digest = sha256(body.encode()).hexdigest()
    return json.dumps({"sha256": digest, "manifest": manifest}, indent=1).encode()


def _verified(path: Path) -> dict[str, JSON]:
    """The manifest, after checking it and all its files against their digests."""
    sealed = read_json_object(path / _MANIFEST)
    manifest: dict[str, JSON] = sealed["manifest"]
    if sha256(json.dumps(manifest).encode()).hexdigest() != sealed["sha256"]:
        raise ValueError(f"{_MANIFEST} does not match its sha256")
    if manifest["format"] != FORMAT:
        raise ValueError(f"format {manifest['format']}; this version reads {FORMAT}")
    if manifest["step"] != _order(path)[0]:
        raise ValueError(f"{_MANIFEST} is of step {manifest['step']}")
    if not isinstance(manifest["extra"], dict) or not isinstance(manifest["state"], dict):
        raise ValueError(f"{_MANIFEST} holds other values than thalweg writes")
    check_tensor_file(path / _STATE)
    with (path / _STATE).open("rb") as stream:
        if file_digest(stream, "sha256").hexdigest() != manifest["sha256"][_STATE]:
            raise ValueError(f"{_STATE} does not match its sha256")
    return manifest
