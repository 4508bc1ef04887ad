"""One number a sample, standardised for the loss and reported in its own unit."""

from dataclasses import dataclass
from functools import partial
from math import nan

from jaxtyping import Float
from torch import Tensor

from thalweg.errors import UsageError
from thalweg.tasks.task import LossFn, Task
from thalweg.tasks.value_losses import VALUE_LOSSES, mse


def regression(
    *, target_mean: float, target_std: float, loss: str = "mse", **settings: float
) -> Task:
    """Mean squared error of the standardised target, or another loss of `tasks.value_losses`.

    1 is what predicting the mean scores in squared error. `settings` are the loss's own.

    Standardising puts every target's gradients on one scale, so that one learning rate suits all.
    Raises: UsageError for a standard deviation that is not positive, or an unknown loss.
    """
    if not target_std > 0:
        raise UsageError(
            "the target takes only one value: there is nothing to learn",
            seen=f"target_std={target_std}",
            fix="check the target column",
        )
    scale = Scale(mean=target_mean, std=target_std, loss_fn=partial(VALUE_LOSSES[loss], **settings))
    return Task(
        name="regression",
        loss_fn=scale.loss,
        outputs=1,
        chance_loss=1.0 if loss == "mse" else nan,  # of others it depends on the distribution
        metrics={"r2": scale.r2, "mae": scale.mae},
        headline="r2",
        decode=scale.decode,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The training targets' mean and standard deviation, between the head and the user's unit."""

    mean: float
    std: float
    loss_fn: LossFn = mse

    def decode(self, logits: Float[Tensor, "sample 1"]) -> Float[Tensor, " sample"]:
        """Predictions in the target's unit."""
        return logits.squeeze(1).float() * self.std + self.mean

    def loss(
        self, logits: Float[Tensor, "sample 1"], targets: Float[Tensor, " sample"]
    ) -> Float[Tensor, ""]:
        """The loss of standardised values: `mse` is in units of the target's variance."""
        return self.loss_fn(logits.squeeze(1).float(), (targets - self.mean) / self.std)

    def mae(self, logits: Float[Tensor, "sample 1"], targets: Float[Tensor, " sample"]) -> float:
        """Mean absolute error in the target's unit."""
        return (self.decode(logits).double() - targets.double()).abs().mean().item()

    def r2(self, logits: Float[Tensor, "sample 1"], targets: Float[Tensor, " sample"]) -> float:
        """1 − Σ(target − prediction)² / Σ(target − mean)²; NaN where the targets are all equal."""
        targets = targets.double()
        residual = (self.decode(logits).double() - targets).square().sum()
        total = (targets - targets.mean()).square().sum()
        return (1 - residual / total).item() if total > 0 else float("nan")
