"""A training by several ranks: what all of them do, and what those do that are not the first."""

from collections.abc import Generator
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from thalweg.data import Batches
from thalweg.distributed.data_parallel import (
    DataParallel,
    evaluate_together,
    prepare_for_ranks,
    share_state,
    with_rank_seeds,
)
from thalweg.distributed.ranks import Joint, Ranks
from thalweg.errors import DataError
from thalweg.optim.ema import WeightAverage
from thalweg.planning.checks import check_devices
from thalweg.planning.make_plan import plan_of
from thalweg.planning.plan import Plan
from thalweg.planning.progress import Progress
from thalweg.training.deferred_loss_check import DeferredLossCheck, deferred_loss_check
from thalweg.training.interrupt import Interrupt
from thalweg.training.loop import Step
from thalweg.training.nonfinite import NonFiniteLossError


def shared(
    own: tuple[Plan | None, Path] | None, ranks: Ranks, progress: Progress
) -> tuple[Plan | None, Path]:
    """The first rank's plan and run folder, on every rank, each with its own device.

    Raises: DataError where a rank's machine has other data.
    """
    plan, folder = own or (None, None)
    told = None if plan is None else (plan.recipe, plan.dataset.fingerprint)
    told, folder = ranks.from_first((told, folder))
    if told is None:
        return None, folder
    recipe, fingerprint = told

    found = ranks.first_on_each_machine(lambda: plan or plan_of(recipe, progress))
    _check_same(found, fingerprint, ranks)
    recipe = found.recipe.edited({"devices": ranks.count})
    check_devices(recipe, here=ranks.count_here)
    if recipe.device.startswith("cuda"):
        recipe = recipe.edited({"device": f"cuda:{ranks.local_rank}"})
    return replace(found, recipe=recipe), folder


def _check_same(plan: Plan, fingerprint: str, ranks: Ranks) -> None:
    if plan.dataset.fingerprint == fingerprint:
        return
    raise DataError(
        f"the data of rank {ranks.rank} are not those of rank 0",
        seen=f"{plan.recipe.data.path}: fingerprint {plan.dataset.fingerprint[:12]}…, "
        f"rank 0 has {fingerprint[:12]}…",
        fix="the same files on every machine, under the same path",
    )


def joint_updates(
    plan: Plan,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    joint: Joint,
    batches: Batches,
    average: WeightAverage | None,
    start: int,
    deferred: DeferredLossCheck | None,
) -> Generator[Step]:
    """The updates from `start` on, made by all ranks together, each with the first's state.

    Whoever takes them closes this: threads may be making batches for it.
    """
    recipe, ranks = plan.recipe, joint.ranks
    first = start * recipe.batch.accumulate
    to_spare = ranks.is_alone or recipe.device != "cpu"  # the cores are the other ranks'
    made = plan.training_stream(
        batches, start=first, prefetch=to_spare, rank=ranks.rank, count=ranks.count
    )
    with closing(made):
        if ranks.is_alone:
            yield from plan.updates(model, optimizer, made, start=start, deferred=deferred)
            return
        ends_early = any(group.get("until", 1.0) < 1.0 for group in optimizer.param_groups)
        together = DataParallel(model, joint, some_unused=ends_early)
        share_state(optimizer, average, ranks)
        stream = with_rank_seeds(together.count_rows(made), ranks, seed=recipe.seed, start=first)
        yield from plan.updates(together, optimizer, stream, start=start, deferred=deferred)


def follow(plan: Plan, ranks: Ranks) -> None:
    """What a rank but the first does: its part of each update and of each validation, no more.

    It writes nothing, and stops when the first one says so.
    """
    with plan.numerics.in_effect(), Interrupt():
        model = plan.build_model()
        optimizer = plan.build_optimizer(model)
        joint, average = prepare_for_ranks(model, ranks), plan.build_weight_average(model)
        start = ranks.from_first()
        if start is None:
            return
        deferred = deferred_loss_check(optimizer)
        steps = joint_updates(
            plan,
            model,
            optimizer,
            joint=joint,
            batches=plan.training_batches(),
            average=average,
            start=start,
            deferred=deferred,
        )
        # A bad loss the first rank has met, too, and says what is to be said.
        with closing(steps), suppress(NonFiniteLossError):
            for step in steps:
                ended = plan.ends_with_validation(step.index + 1)
                if average is not None:
                    average.update(step.index)
                if deferred is not None and ended:
                    deferred.check_all()
                if ended:
                    _judge(plan, model, average, ranks=ranks)
                if ranks.decision_of_first(False):
                    return


def _judge(plan: Plan, model: nn.Module, average: WeightAverage | None, *, ranks: Ranks) -> None:
    val = plan.evaluation_batches("val")
    with nullcontext() if average is None else average.averaged_model():
        evaluate_together(model, val, plan.task, ranks=ranks, dtype=plan.dtype)
