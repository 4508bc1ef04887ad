"""Score a program's own passes over its validation loader, as their outputs come."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from thalweg.adapters.script.loaders import BatchForm
from thalweg.observe import Watcher
from thalweg.observe.forward_pass import main_output, tensors
from thalweg.observe.guard import Hook, ReportFailure
from thalweg.record.quantities import LOSS_KIND, TARGETS_COMPARED

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "smooth_l1": F.smooth_l1_loss,
    "bce": F.binary_cross_entropy,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
}


class ValidationScores:
    """Sums loss and accuracy over a pass without gradient; the watcher receives their means.

    Only the loss that training was seen to compare the same labels with is computed.
    """

    def __init__(self, watcher: Watcher, form: BatchForm, report_failure: ReportFailure) -> None:
        self.batch: Any = None  # of a validation loader, the last one read; None: of another
        self._watcher, self._form = watcher, form
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self._kind = ""
        hook = Hook(self._after_forward, report_failure)
        self._handle: RemovableHandle | None = watcher.model.register_forward_hook(
            hook, with_kwargs=True
        )

    def finish_pass(self) -> None:
        """Log the means: training goes on."""
        sums, self._sums = self._sums, {}
        count, self._count = self._count, 0
        if count:
            self._watcher.log(**{name: total / count for name, total in sums.items()})

    def close(self) -> None:
        """Score nothing more."""
        self.finish_pass()
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _after_forward(self, _: nn.Module, inputs: Any, keywords: Any, output: Any) -> None:
        batch, self.batch = self.batch, None  # a batch is scored once
        if batch is None or torch.is_grad_enabled():
            return
        outputs = main_output(output)
        expected, targets = self._form.pair(batch)
        first = next(tensors((inputs, keywords)), None)
        if outputs is None or targets is None or first is None or expected is None:
            return
        if first.shape == expected.shape and len(outputs) == len(targets):
            self._add(outputs.detach(), targets.to(outputs.device))

    def _add(self, outputs: Tensor, targets: Tensor) -> None:
        scores = self._scores(outputs.float(), targets)
        for name, score in scores.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(score)) + score * len(targets)
        self._count += len(targets) if scores else 0

    def _scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        kind = self._loss_kind()
        if kind == "cross_entropy" and outputs.ndim == 2 and targets.ndim == 1:
            if targets.is_floating_point():
                return {}
            right = (outputs.argmax(1) == targets).float().mean()
            return {"val_loss": F.cross_entropy(outputs, targets.long()), "val_accuracy": right}
        if kind in LOSSES and outputs.numel() == targets.numel():
            return {"val_loss": LOSSES[kind](outputs, targets.reshape(outputs.shape).float())}
        return {}

    def _loss_kind(self) -> str:
        """The loss function, once training was seen to compare the loader's labels with it."""
        if not self._kind:
            history = self._watcher.history
            agrees = history.series(TARGETS_COMPARED, "batch")
            kinds = list(history.by_place(LOSS_KIND))
            if agrees and agrees[max(agrees)] == 1.0 and len(kinds) == 1:
                self._kind = kinds[0]
        return self._kind
