"""A training by several ranks: what all of them do, and what those do that are not the first."""

from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from thalweg.data import Batch, Batches
from thalweg.distributed.data_parallel import (
    Together,
    evaluate_together,
    share_state,
    united,
    with_own_chance,
)
from thalweg.distributed.ranks import Joint, Ranks
from thalweg.errors import DataError
from thalweg.optim import SCHEDULES
from thalweg.optim.ema import WeightAverage
from thalweg.planning.build import (
    batches_of,
    dtype_of,
    model_and_optimizer,
    penalty_of,
    setting_of,
    training_batches,
    training_stream,
    weight_average,
)
from thalweg.planning.checks import check_devices
from thalweg.planning.plan import Plan, read_dataset, spec_of, training_task
from thalweg.planning.progress import Progress
from thalweg.training.interrupt import Interrupt
from thalweg.training.late_losses import LateLosses, late_losses
from thalweg.training.loop import Step
from thalweg.training.loop import train as updates
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

    def read() -> Plan:
        if plan is not None:
            return plan
        return Plan(recipe=recipe, defaults=recipe, dataset=read_dataset(recipe.flat(), progress))

    found = ranks.one_after_the_other(read)
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
    late: LateLosses | None,
) -> Generator[Step]:
    """The updates from `start` on, made by all ranks together, each with the first's state.

    Whoever takes them closes this: threads may be making batches for it.
    """
    recipe, ranks = plan.recipe, joint.ranks
    first = start * recipe.batch.accumulate
    to_spare = ranks.is_alone or recipe.device != "cpu"  # the cores are the other ranks'
    made = training_stream(
        plan, batches, start=first, ahead=to_spare, rank=ranks.rank, count=ranks.count
    )
    with closing(made):
        if ranks.is_alone:
            yield from _updates(plan, model, optimizer, stream=made, start=start, late=late)
            return
        ends_early = any(group.get("until", 1.0) < 1.0 for group in optimizer.param_groups)
        together = Together(model, joint, some_rest=ends_early)
        share_state(optimizer, average, ranks)
        stream = with_own_chance(together.noted(made), ranks, seed=recipe.seed, start=first)
        yield from _updates(plan, together, optimizer, stream=stream, start=start, late=late)


def _updates(
    plan: Plan,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    stream: Iterator[Batch],
    start: int,
    late: LateLosses | None,
) -> Iterator[Step]:
    recipe = plan.recipe
    schedule = SCHEDULES[recipe.schedule.name]
    return updates(
        model,
        stream,
        training_task(spec_of(plan), recipe).loss_fn,
        optimizer=optimizer,
        schedule=schedule(recipe.schedule.warmup, **recipe.schedule.changes),
        steps=plan.steps,
        start=start,
        accumulate=recipe.batch.accumulate,
        max_grad_norm=recipe.optimizer.max_grad_norm,
        dtype=dtype_of(plan),
        penalty=penalty_of(plan, model),
        late=late,
    )


def ends_epoch(plan: Plan, done: int) -> bool:
    """Whether so many updates end with a validation."""
    return (
        done % (plan.steps_per_epoch * plan.recipe.evaluation.interval) == 0 or done == plan.steps
    )


def follow(plan: Plan, ranks: Ranks) -> None:
    """What a rank but the first does: its part of each update and of each validation, no more.

    It writes nothing, and stops when the first one says so.
    """
    with setting_of(plan).in_effect(), Interrupt():
        model, optimizer = model_and_optimizer(plan)
        joint, average = united(model, ranks), weight_average(plan, model)
        start = ranks.from_first()
        if start is None:
            return
        late = late_losses(optimizer)
        steps = joint_updates(
            plan,
            model,
            optimizer,
            joint=joint,
            batches=training_batches(plan),
            average=average,
            start=start,
            late=late,
        )
        # A bad loss the first rank has met, too, and says what is to be said.
        with closing(steps), suppress(NonFiniteLossError):
            for step in steps:
                ended = ends_epoch(plan, step.index + 1)
                if average is not None:
                    average.update(step.index)
                if late is not None and ended:
                    late.settle()
                if ended:
                    _judge(plan, model, average, ranks=ranks)
                if ranks.agreed(False):
                    return


def _judge(plan: Plan, model: nn.Module, average: WeightAverage | None, *, ranks: Ranks) -> None:
    task, val = training_task(spec_of(plan), plan.recipe), batches_of(plan, "val")
    with nullcontext() if average is None else average.averaged_model():
        evaluate_together(model, val, task, ranks=ranks, dtype=dtype_of(plan))
