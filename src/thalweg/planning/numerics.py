"""A plan → the same plan with its precision measured on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace

import torch

from thalweg.borrow import Subject
from thalweg.distributed.ranks import cores_of_a_rank
from thalweg.planning.build import (
    first_of_last_size,
    model_and_optimizer,
    setting_of,
    training_stream,
)
from thalweg.planning.micro_batch import with_fitting_batch
from thalweg.planning.plan import Plan, spec_of, training_task
from thalweg.planning.progress import Progress
from thalweg.planning.speed.autotune import Measured
from thalweg.planning.speed.cache import remembered
from thalweg.training.numerics import Setting

_GROUP = "precision."


def with_precision(plan: Plan, progress: Progress) -> Plan:
    """The plan with batches that fit into memory, and with what computes its steps fastest of what
    is exact enough.
    """
    if not plan.steps:
        return plan
    progress.phase = "measuring"
    fitting = with_fitting_batch(plan)
    progress.messages.extend(fitting.notes[len(plan.notes) :])
    plan = fitting
    if all(_GROUP + part.name in plan.given for part in fields(Setting)):
        return plan
    found = measured_precision(plan)
    progress.messages.append(found.note)
    edits = {_GROUP + part.name: getattr(found.chosen, part.name) for part in fields(Setting)}
    return replace(plan, recipe=plan.recipe.edited(edits), notes=(*plan.notes, found.note))


def measured_precision(plan: Plan, *, always: bool = False, fresh: bool = False) -> Measured:
    """What was measured for the plan's model and batch, now or, unless `fresh`, before.

    With `always` even where the run is too short for it to pay.
    """
    decoding = plan.dataset.decoding
    with decoding.paused() if decoding is not None else nullcontext(), _share_of(plan):
        return _measured(plan, always=always, fresh=fresh)


def _measured(plan: Plan, *, always: bool, fresh: bool) -> Measured:
    model, _ = model_and_optimizer(plan)
    batch = next(training_stream(plan, start=first_of_last_size(plan)))
    task = training_task(spec_of(plan), plan.recipe)
    fixed = frozenset(key.removeprefix(_GROUP) for key in plan.given if key.startswith(_GROUP))
    if plan.recipe.devices > 1:
        fixed |= {"compile"}
    return remembered(
        Subject(model=model, loss_fn=task.loss_fn, batches=[batch]),
        setting_of(plan),
        steps=plan.steps * plan.recipe.batch.accumulate,
        fixed=fixed,
        always=always,
        fresh=fresh,
    )


@contextmanager
def _share_of(plan: Plan) -> Iterator[None]:
    """With as many threads as each of the plan's devices will have."""
    threads = torch.get_num_threads()
    if plan.recipe.devices > 1:
        torch.set_num_threads(cores_of_a_rank(plan.recipe.devices))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
