"""Quantities of several ranks of one training: what each of them shows of itself."""

from thalweg.record.quantity import Quantity

__all__ = [
    "RANK_DISTANCE",
    "RANK_LOSS",
    "RANK_LOSS_ERROR",
    "SAME_BATCHES",
]

_RANKS = (
    "only for several ranks of torch.distributed that start from the same weights, unsharded, and "
    "are all watched"
)

RANK_DISTANCE = Quantity(
    "rank_distance",
    "largest ‖w − w of another rank‖ / ‖w − w at the start‖, of some weights' entries",
    how=_RANKS,
)
SAME_BATCHES = Quantity(
    "same_batches", "1 where the ranks' batches of a step were the same, 0 where not", how=_RANKS
)
RANK_LOSS = Quantity(
    "rank_loss", "mean of the last 64 losses on each rank", unit="nat", per="kind", how=_RANKS
)
RANK_LOSS_ERROR = Quantity(
    "rank_loss_error", "standard error of that mean", unit="nat", per="kind", how=_RANKS
)
