"""How well a model does on a split."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thalweg.borrow import preserve_modes, preserve_random_state
from thalweg.data.batch import Batch
from thalweg.data.images.test_time_augmentation import ONE_VIEW, Views
from thalweg.errors import DataError
from thalweg.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Loss and metrics over all samples at once, with the outputs they came from (on the CPU)."""

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
    views: Views = ONE_VIEW,
    first: Tensor | None = None,
) -> Evaluation:
    """Loss and metrics of the model in evaluation mode, exact where the last batch is smaller.

    Of images several views may be averaged, as they will be in prediction; `first` is what the
    model said of the first view of each sample, where that is known.
    Leaves every module's mode and the random state as they were.
    Raises: DataError when there is no batch.
    """
    return judged(outputs(model, batches, dtype=dtype, views=views, first=first), task)


def outputs(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    dtype: torch.dtype = torch.float32,
    views: Views = ONE_VIEW,
    first: Tensor | None = None,
) -> list[Batch]:
    """The model's logits of each batch, in evaluation mode, with its targets.

    Leaves every module's mode and the random state as they were.
    """
    found: list[Batch] = []
    done = 0
    with preserve_random_state(), preserve_modes(model), torch.inference_mode():
        model.eval()
        for inputs, targets in batches:
            device = inputs.device.type
            with torch.autocast(device, dtype, enabled=dtype != torch.float32):
                known = (
                    None if first is None else first[done : done + len(inputs)].to(inputs.device)
                )
                found.append(Batch(views(model, inputs, known), targets))
            done += len(inputs)
    return found


def judged(found: Sequence[tuple[Tensor, Tensor]], task: Task) -> Evaluation:
    """Loss and metrics of pairs of logits and targets, all samples at once.

    Raises: DataError when there is none.
    """
    if not found:
        raise DataError("there is no batch to evaluate on", fix="use a split that has samples")
    logits, targets = (torch.cat(parts) for parts in zip(*found, strict=True))
    logits = logits.float()
    with torch.no_grad():
        loss = task.loss_fn(logits, targets).item()
        metrics = {name: metric(logits, targets) for name, metric in task.metrics.items()}
    return Evaluation(loss=loss, metrics=metrics, logits=logits.cpu(), targets=targets.cpu())
