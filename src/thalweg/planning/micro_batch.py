"""A plan → the same plan with micro-batches that fit into memory, their gradients accumulated."""

import math

import torch
from torch import nn

from thalweg.borrow import Subject, preserve_random_state
from thalweg.data.batch import Batch, Inputs
from thalweg.memory import available_bytes
from thalweg.planning.plan import Plan
from thalweg.planning.speed.benchmark import loss_and_gradient
from thalweg.training.memory import is_out_of_memory, step_bytes

MIN_SIZE = 2  # samples: one alone has no variance to normalise by
FITS = 0.5  # of the available memory: a step estimated to take less is not tried
TOO_MUCH = 0.9  # on a CPU a step estimated to take more is not tried: the system would kill it


def with_fitting_batch(plan: Plan) -> Plan:
    """Halve the batch and accumulate twice as many until a step fits into memory.

    An update keeps its number of samples. A size that the user set is halved too, with a note.
    """
    batch, parts = plan.recipe.batch, 1
    size = min(batch.size, plan.dataset.facts.counts["train"])
    with preserve_random_state():
        model = plan.spec.build().train()
        while size // (2 * parts) >= MIN_SIZE and not _fits(plan, model, math.ceil(size / parts)):
            parts *= 2
    if parts == 1:
        return plan
    part = math.ceil(batch.size / parts)
    note = f"a batch of {batch.size} does not fit into memory: {parts} of {part} are accumulated"
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        note += "; batch norms see the statistics of such a part"
    edits = {"batch.size": part, "batch.accumulate": parts * batch.accumulate}
    return plan.edited(edits, note=note)


def _step_bytes(plan: Plan, model: nn.Module, size: int) -> int:
    """Estimated bytes of a step; 0 where the model fails, which training reports better."""
    try:
        return step_bytes(model, _example(plan, MIN_SIZE), samples=size)
    except Exception:
        return 0


def _example(plan: Plan, size: int) -> Inputs:
    return plan.dataset.modality.example(plan.dataset.facts, size)


def _fits(plan: Plan, model: nn.Module, size: int) -> bool:
    device = torch.device(plan.recipe.device)
    share = _step_bytes(plan, model, size) / max(1, available_bytes(device))
    if share <= FITS or (device.type == "cpu" and share > TOO_MUCH):
        return share <= FITS
    return _succeeds(plan, size)


def _succeeds(plan: Plan, size: int) -> bool:
    """Make a step on that many samples; return whether the memory was enough."""
    device = torch.device(plan.recipe.device)
    try:
        with preserve_random_state():
            model = plan.build_model().train()
            one = torch.from_numpy(plan.dataset.targets[:1])
            targets = one.new_zeros(size, *one.shape[1:])
            batch = Batch(_example(plan, size), targets).to(device)
            subject = Subject(model=model, loss_fn=plan.task.loss_fn, batches=[batch])
            loss_and_gradient(subject, plan.numerics)
    except Exception as error:
        return not is_out_of_memory(error)
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return True
