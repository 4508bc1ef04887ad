"""What can be done with a run, a model or a loop that is there already."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thalweg import diagnosis, observe
from thalweg.diagnosis import Diagnosis
from thalweg.export.saved_model import Prediction, SavedModel, load_model
from thalweg.observe import Watcher
from thalweg.record import History, RunReader
from thalweg.record.curves import read_curves
from thalweg.record.run_folder import is_run


def load(run: str | Path, *, device: str = "cpu") -> SavedModel:
    """The trained model of a run, with its preprocessing and class names."""
    return load_model(Path(run) / "model", device=device)


def predict(run: str | Path, sources: Iterable[str | Path]) -> list[Prediction]:
    """One prediction for each image file, by the model of that run."""
    return load(run).predict(sources)


def diagnose(
    source: str | Path | History | Watcher,
    *,
    columns: Mapping[str, str] | None = None,
    num_classes: int | None = None,
) -> Diagnosis:
    """What is wrong with a run: a run folder, a history, a loop being watched, or logged curves.

    Curves are a CSV file, a trainer_state.json or a TensorBoard log; `columns` says what those
    measure whose names do not tell, as {"val_loss": "validation/ce"}.
    """
    if isinstance(source, Watcher):
        return source.diagnose()
    if isinstance(source, History):
        return diagnosis.diagnose(source)
    path = Path(source)
    if is_run(path):
        return diagnosis.diagnose(RunReader(path).history)
    recording = read_curves(path, columns=columns, num_classes=num_classes)
    return diagnosis.diagnose_curves(recording.history, by_epoch=recording.by_epoch)


def watch(
    model: nn.Module, optimizer: torch.optim.Optimizer | list[torch.optim.Optimizer], **about: Any
) -> Watcher:
    """Measure anybody's training loop; call `step(loss)` on what this returns, once an update.

    `about` is what only you can tell, each thing optional: loss_fn, task, num_classes, train, val,
    scheduler, and sharpness=True for the curvature. With less, more is reported as not checked.
    """
    several = [optimizer] if isinstance(optimizer, torch.optim.Optimizer) else optimizer
    bare = [_bare(one) for one in several]
    return observe.watch(model, bare, diagnose=diagnosis.diagnose, **about)


def _bare(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer inside a wrapper such as accelerate's, which has no hooks of its own."""
    inside = getattr(optimizer, "optimizer", None)
    return inside if isinstance(inside, torch.optim.Optimizer) else optimizer
