"""One number a sample, standardised for the loss and reported in its own unit."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from thalweg.errors import UsageError
from thalweg.tasks.task import Task


def regression(*, target_mean: float, target_std: float) -> Task:
    """Mean squared error of the standardised target; 1 is what predicting the mean scores.

    Standardising puts every target's gradients on one scale, so that one learning rate suits all.
    Raises: UsageError for a standard deviation that is not positive.
    """
    if not target_std > 0:
        raise UsageError(
            "the target takes only one value: there is nothing to learn",
            seen=f"target_std={target_std}",
            fix="check the target column",
        )
    scale = Scale(mean=target_mean, std=target_std)
    return Task(
        name="regression",
        loss_fn=scale.loss,
        outputs=1,
        chance_loss=1.0,
        metrics={"r2": scale.r2, "mae": scale.mae},
        headline="r2",
        decode=scale.decode,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The training targets' mean and standard deviation, between the head and the user's unit."""

    mean: float
    std: float

    def decode(self, logits: Float[Tensor, "sample 1"]) -> Float[Tensor, " sample"]:
        """Predictions in the target's unit."""
        return logits.squeeze(1).float() * self.std + self.mean

    def loss(
        self, logits: Float[Tensor, "sample 1"], targets: Float[Tensor, " sample"]
    ) -> Float[Tensor, ""]:
        """Mean squared error in units of the target's variance."""
        return F.mse_loss(logits.squeeze(1).float(), (targets - self.mean) / self.std)

    def mae(self, logits: Float[Tensor, "sample 1"], targets: Float[Tensor, " sample"]) -> float:
        """Mean absolute error in the target's unit."""
        return (self.decode(logits).double() - targets.double()).abs().mean().item()

    def r2(self, logits: Float[Tensor, "sample 1"], targets: Float[Tensor, " sample"]) -> float:
        """1 − Σ(target − prediction)² / Σ(target − mean)²; NaN where the targets are all equal."""
        targets = targets.double()
        residual = (self.decode(logits).double() - targets).square().sum()
        total = (targets - targets.mean()).square().sum()
        return (1 - residual / total).item() if total > 0 else float("nan")
