"""Session: a plan that is built and trained, by this process alone or as one rank of several."""

from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from thalweg.data import Batch, Batches
from thalweg.distributed.data_parallel import (
    DataParallel,
    evaluate_together,
    prepare_for_ranks,
    share_state,
    with_rank_seeds,
)
from thalweg.distributed.ranks import Joint, Ranks
from thalweg.optim.ema import WeightAverage
from thalweg.planning.plan import Plan
from thalweg.training.deferred_loss_check import DeferredLossCheck
from thalweg.training.evaluate import Evaluation
from thalweg.training.loop import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The network, the optimizer and the batches that every rank has."""

    plan: Plan
    model: nn.Module
    optimizer: torch.optim.Optimizer
    train: Batches
    val: Batches
    average: WeightAverage | None  # None where the recipe averages no weights
    joint: Joint  # the forward passes that all ranks make together

    @property
    def ranks(self) -> Ranks:
        return self.joint.ranks

    def updates(self, start: int, deferred: DeferredLossCheck | None) -> Generator[Step]:
        """Make the updates from number `start` to the end, all ranks together, yielding after each.

        All begin with the first rank's state. The caller closes this: threads may be prefetching.
        """
        recipe, ranks = self.plan.recipe, self.ranks
        first = start * recipe.batch.accumulate
        has_cores = ranks.is_alone or recipe.device != "cpu"  # to prefetch with: no rank needs them
        stream = self.plan.training_stream(
            self.train, start=first, prefetch=has_cores, rank=ranks.rank, count=ranks.count
        )
        with closing(stream):
            model: nn.Module = self.model
            batches: Iterator[Batch] = stream
            if not ranks.is_alone:
                groups = self.optimizer.param_groups
                ends_early = any(group.get("until", 1.0) < 1.0 for group in groups)
                model = parallel = DataParallel(self.model, self.joint, some_unused=ends_early)
                share_state(self.optimizer, self.average, ranks)
                parts = parallel.count_rows(stream)
                batches = with_rank_seeds(parts, ranks, seed=recipe.seed, start=first)
            yield from self.plan.updates(
                model, self.optimizer, batches, start=start, deferred=deferred
            )

    def evaluate(self) -> Evaluation | None:
        """Evaluate the validation split, all ranks together; None on every rank but the first."""
        with nullcontext() if self.average is None else self.average.averaged_model():
            return evaluate_together(
                self.model, self.val, self.plan.task, ranks=self.ranks, dtype=self.plan.dtype
            )


def build_session(plan: Plan, ranks: Ranks) -> Session:
    """Build the network, its optimizer and its batches."""
    model = plan.build_model()
    return Session(
        plan=plan,
        model=model,
        optimizer=plan.build_optimizer(model),
        joint=prepare_for_ranks(model, ranks),  # before anything watches the model
        train=plan.training_batches(),
        val=plan.evaluation_batches("val"),
        average=plan.build_weight_average(model),
    )
