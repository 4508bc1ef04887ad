"""A plan → the parts that are trained: a network, an optimizer, batches."""

import torch
from torch import nn

from thalweg.api.planning import Plan, spec_of
from thalweg.data import Augment, Batches
from thalweg.optim import OPTIMIZERS


def model_and_optimizer(plan: Plan) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Fresh weights that follow from the seed, and what will change them."""
    recipe = plan.recipe
    torch.manual_seed(recipe.seed)
    model = spec_of(plan).build().to(recipe.device)
    if recipe.precision.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # in no stub
    optimizer = OPTIMIZERS[recipe.optimizer.name](
        model.named_parameters(),
        lr=recipe.optimizer.lr,
        weight_decay=recipe.optimizer.weight_decay,
        momentum=recipe.optimizer.momentum,
    )
    return model, optimizer


def training_batches(plan: Plan) -> Batches:
    """The training split, shuffled and augmented as the recipe says."""
    recipe = plan.recipe
    augment = Augment(**{key: getattr(recipe.augment, key) for key in recipe.augment.__slots__})
    return Batches(
        plan.dataset,
        "train",
        batch_size=recipe.batch.size,
        seed=recipe.seed,
        shuffle=True,
        drop_last=plan.drop_last,
        augment=augment if plan.dataset.facts.kind == "image" else None,
        device=recipe.device,
    )


def batches_of(plan: Plan, split: str) -> Batches:
    """A split in order, as it is: for judging."""
    size = 2 * plan.recipe.batch.size  # no gradients to hold
    return Batches(plan.dataset, split, batch_size=size, device=plan.recipe.device)
