"""Evaluate a model on a split: loss and metrics over all of its samples at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thalweg.borrow import preserve_modes, preserve_random_state
from thalweg.data.batch import Batch
from thalweg.data.images.test_time_augmentation import ONE_VIEW, AugmentedViews
from thalweg.errors import DataError
from thalweg.tasks import Task
from thalweg.tasks.token_losses import IGNORED


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Loss and metrics over all samples at once, with what is held of the outputs (on the CPU)."""

    loss: float
    metrics: dict[str, float]
    logits: Tensor
    targets: Tensor


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    task: Task,
    *,
    dtype: torch.dtype = torch.float32,
    views: AugmentedViews = ONE_VIEW,
    first: Tensor | None = None,
) -> Evaluation:
    """Loss and metrics of the model in evaluation mode, exact where the last batch is smaller.

    Of images several views may be averaged, as in prediction (test-time augmentation); `first` are
    the outputs for the first view of each sample, where they have been computed before.
    Every module's mode and the random state are restored.
    Raises: DataError when there is no batch.
    """
    pairs = predict_batches(model, batches, task, dtype=dtype, views=views, first=first)
    return evaluate_outputs(pairs, task)


def predict_batches(
    model: nn.Module,
    batches: Iterable[Batch],
    task: Task,
    *,
    dtype: torch.dtype = torch.float32,
    views: AugmentedViews = ONE_VIEW,
    first: Tensor | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """The model's outputs for each batch, in evaluation mode, with its targets.

    The task says what of them is held. Every module's mode and the random state are restored.
    """
    pairs: list[tuple[Tensor, Tensor]] = []
    done = 0
    with preserve_random_state(), preserve_modes(model), torch.inference_mode():
        model.eval()
        for inputs, targets in batches:
            device, end = targets.device, done + len(targets)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                own = None if first is None else first[done:end].to(device)
                outputs = views(model, inputs, own)
            pairs.append((task.condense(outputs, targets), targets))
            done = end
    return pairs


def join_rows(parts: Sequence[Tensor]) -> Tensor:
    """The rows of all parts; where they differ in length, padded behind.

    Padding is 0, and `IGNORED` for targets, so that losses and metrics pass it over.
    """
    if parts[0].ndim < 2 or len({part.shape[1] for part in parts}) == 1:
        return torch.cat(list(parts))
    longest = max(part.shape[1] for part in parts)
    filler = 0 if parts[0].is_floating_point() else IGNORED
    shape = (sum(map(len, parts)), longest, *parts[0].shape[2:])
    joined = parts[0].new_full(shape, filler)
    for part, rows in zip(parts, joined.split([len(part) for part in parts]), strict=True):
        rows[:, : part.shape[1]] = part
    return joined


def evaluate_outputs(pairs: Sequence[tuple[Tensor, Tensor]], task: Task) -> Evaluation:
    """Loss and metrics of pairs of logits and targets, all samples at once.

    Raises: DataError when there is none.
    """
    if not pairs:
        raise DataError("there is no batch to evaluate on", fix="use a split that has samples")
    logits, targets = (join_rows(parts) for parts in zip(*pairs, strict=True))
    logits = logits.float()
    with torch.no_grad():
        loss = (task.condensed_loss or task.loss_fn)(logits, targets).item()
        metrics = {name: metric(logits, targets) for name, metric in task.metrics.items()}
    return Evaluation(loss=loss, metrics=metrics, logits=logits.cpu(), targets=targets.cpu())
