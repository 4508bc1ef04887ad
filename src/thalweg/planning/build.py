"""A plan → the parts that are trained: a network, an optimizer, batches."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import fields
from functools import partial

import torch
from torch import Tensor, nn

from thalweg.data import Augment, Batch, Batches
from thalweg.data.batch import cut
from thalweg.data.images.progressive_resizing import Shrink, shrink_for
from thalweg.data.mix import Mix
from thalweg.models.pieces.fit_to_inputs import fit_to_inputs
from thalweg.optim import OPTIMIZERS
from thalweg.optim.ema import WeightAverage
from thalweg.optim.muon import Muon
from thalweg.planning.plan import Plan, spec_of
from thalweg.planning.transfer import freeze_for
from thalweg.recipes.recipe import Recipe
from thalweg.tasks.penalties import penalty
from thalweg.training.numerics import Setting


def setting_of(plan: Plan) -> Setting:
    """How its steps are computed."""
    precision = plan.recipe.precision
    return Setting(**{part.name: getattr(precision, part.name) for part in fields(Setting)})


def dtype_of(plan: Plan) -> torch.dtype:
    """What matrix products compute in."""
    return getattr(torch, plan.recipe.precision.dtype)


def model_and_optimizer(plan: Plan) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Fresh weights that follow from the seed, and what will change them."""
    recipe = plan.recipe
    torch.manual_seed(recipe.seed)
    model = setting_of(plan).laid_out(spec_of(plan).build().to(recipe.device))
    fit_to_inputs(model, recipe.model.changes, partial(training_inputs, plan))
    freeze_for(recipe, model, outputs=spec_of(plan).build_task().outputs)
    return model, optimizer_of(recipe, model.named_parameters(), lr=recipe.optimizer.lr)


def optimizer_of(
    recipe: Recipe, named_weights: Iterable[tuple[str, nn.Parameter]], *, lr: float
) -> torch.optim.Optimizer:
    """The recipe's optimizer, for these weights."""
    wanted = recipe.optimizer
    optimizer = OPTIMIZERS[wanted.name](
        named_weights,
        lr=lr,
        weight_decay=wanted.weight_decay,
        momentum=wanted.momentum,
        **wanted.changes,
    )
    if isinstance(optimizer, Muon):  # its products cost as much as some layers'
        optimizer.dtype = getattr(torch, recipe.precision.dtype)
    return optimizer


def weight_average(plan: Plan, model: nn.Module) -> WeightAverage | None:
    """The moving average of the model's weights; None where the recipe wants none."""
    decay = plan.recipe.optimizer.ema_decay
    return WeightAverage(model, decay=decay) if decay else None


def penalty_of(plan: Plan, model: nn.Module) -> Callable[[], Tensor] | None:
    """What computes λ · R of the model's weights of now; None where the recipe wants none."""
    task = plan.recipe.task
    if task.penalty == "none":
        return None
    return penalty(model, task.penalty, weight=task.penalty_weight, beta=task.elastic_beta)


def training_batches(plan: Plan) -> Batches:
    """The training split, shuffled and augmented as the recipe says; not yet mixed."""
    recipe = plan.recipe
    augment = Augment(**{part.name: getattr(recipe.augment, part.name) for part in fields(Augment)})
    return Batches(
        plan.dataset,
        "train",
        batch_size=recipe.batch.size,
        seed=recipe.seed,
        shuffle=True,
        drop_last=plan.drop_last,
        augment=augment if plan.dataset.facts.kind == "image" else None,
        channels_last=recipe.precision.channels_last,
        device=recipe.device,
    )


def training_inputs(plan: Plan, least: int) -> Tensor:
    """Inputs of the first batches, augmented but not mixed, until there are that many; or all."""
    found: list[Tensor] = []
    for batch in training_batches(plan):
        found.append(batch.inputs)
        if sum(map(len, found)) >= least:
            break
    return torch.cat(found)


def training_stream(
    plan: Plan,
    batches: Batches | None = None,
    *,
    start: int = 0,
    ahead: bool = False,
    rank: int = 0,
    count: int = 1,
) -> Generator[Batch]:
    """What the model is trained on from batch `start` on: without end, mixed if it is to be.

    `ahead`, `rank` and `count` as in `Batches.stream`: whoever takes the batches closes the stream.
    """
    wanted, facts = plan.recipe.augment, plan.dataset.facts
    source, shrink = batches or training_batches(plan), shrink_of(plan)
    if not (wanted.mixup or wanted.cutmix):
        return source.stream(start, shrink=shrink, ahead=ahead, rank=rank, count=count)
    mix = Mix(mixup=wanted.mixup, cutmix=wanted.cutmix, num_classes=facts.num_classes)
    # A sample's partner may be in another rank's part: what is mixed is made whole, then divided.
    whole = source.stream(start, shrink=shrink, ahead=ahead)
    mixed = mix.stream(whole, seed=plan.recipe.seed, start=start)
    return (cut(batch, rank=rank, count=count) for batch in mixed)


def shrink_of(plan: Plan) -> Shrink | None:
    """What makes the images of the first batches smaller; None where the recipe wants none."""
    recipe = plan.recipe
    shares = {size: float(share) for size, share in recipe.augment.progressive_resizing.items()}
    return shrink_for(shares, batches=plan.steps * recipe.batch.accumulate)


def first_whole(plan: Plan) -> int:
    """The number of the first training batch whose images have their full size."""
    shrink = shrink_of(plan)
    return shrink.batches if shrink else 0


def first_of_last_size(plan: Plan) -> int:
    """The number of the first training batch whose images have the size that they end with."""
    shrink = shrink_of(plan)
    return shrink.last_change(plan.steps * plan.recipe.batch.accumulate) if shrink else 0


def batches_of(plan: Plan, split: str) -> Batches:
    """A split in order, as it is: for judging."""
    size = 2 * plan.recipe.batch.size  # no gradients to hold
    recipe = plan.recipe
    return Batches(
        plan.dataset,
        split,
        batch_size=size,
        channels_last=recipe.precision.channels_last,
        device=recipe.device,
    )
