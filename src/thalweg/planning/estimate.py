"""Estimate the time and memory that a plan takes, from a few of its steps."""

from contextlib import suppress
from dataclasses import dataclass
from math import ceil, nan
from statistics import median
from time import perf_counter

from thalweg.borrow import preserve_random_state
from thalweg.models.anatomy.summary import summary
from thalweg.optim.state_bytes import state_bytes
from thalweg.planning.plan import Plan
from thalweg.training.loop import train
from thalweg.training.nonfinite import NonFiniteLossError

WARM_UP_STEPS = 2  # slower than the others: memory is claimed, kernels are chosen
TIMED_STEPS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Bytes and seconds, without reading the data and without the allocator's reserve."""

    seconds: float  # of training and validating; NaN where no step succeeded
    step_seconds: float
    weights: int  # bytes, like the following: the weights, and their average where one is kept
    gradients: int
    optimizer: int  # its state
    activations: int  # outputs of all layers for one batch, which the backward pass reads

    @property
    def memory(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


def estimate_plan(plan: Plan) -> Estimate:
    """Estimate time from a few steps on the plan's own batches, memory from the model's layers.

    The weights are fresh ones, and the random state is preserved.
    """
    with preserve_random_state():
        model = plan.build_model()
        optimizer = plan.build_optimizer(model)
        times: list[float] = []
        with suppress(NonFiniteLossError):  # the run itself will report it; here the time is NaN
            start = perf_counter()
            for step in train(
                model,
                plan.training_stream(start=plan.first_full_size_batch),
                plan.task.loss_fn,
                optimizer=optimizer,
                schedule=lambda progress: 0.01,
                steps=WARM_UP_STEPS + TIMED_STEPS,
                accumulate=plan.recipe.batch.accumulate,
                max_grad_norm=plan.recipe.optimizer.max_grad_norm,
                dtype=plan.dtype,
                penalty=plan.penalty(model),
            ):
                step.loss.item()  # waits for the device
                times.append(perf_counter() - start)
                start = perf_counter()
    example = plan.dataset.modality.example(plan.dataset.facts, 1)
    layers = summary(model, example)
    step_seconds = median(times[WARM_UP_STEPS:]) if len(times) > WARM_UP_STEPS else nan
    copies = 2 if plan.recipe.optimizer.ema_decay else 1
    return Estimate(
        seconds=step_seconds * (_training_steps(plan) + _validation_steps(plan)),
        step_seconds=step_seconds,
        weights=copies * layers.weight_bytes,
        gradients=layers.weight_bytes,
        optimizer=state_bytes(optimizer),
        activations=layers.activation_bytes * plan.recipe.batch.size,
    )


def _training_steps(plan: Plan) -> float:
    """All updates, in updates on images of full size: time is in proportion to their pixels."""
    whole = max(plan.dataset.facts.input_shape[1:], default=1)
    small = plan.recipe.augment.progressive_resizing.items()
    saved = sum(float(share) * (1 - (int(size) / whole) ** 2) for size, share in small)
    return plan.steps * (1 - saved)


def _validation_steps(plan: Plan) -> float:
    """All validations, in steps: a forward pass is a third of a step, two of which go backward."""
    recipe, count = plan.recipe, plan.dataset.facts.counts.get("val", 0)
    each = ceil(count / (recipe.batch.size * recipe.batch.accumulate)) / 3
    return each * (ceil(plan.steps / plan.validation_interval) + 1)
