"""A plan → the same plan in batches that fit, with the numerics that are fastest on this host."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict

import torch

from thalweg.borrow import Subject
from thalweg.distributed.ranks import cores_of_a_rank
from thalweg.planning.micro_batch import with_fitting_batch
from thalweg.planning.plan import Plan
from thalweg.planning.progress import Progress
from thalweg.planning.speed.autotune import AutotuneResult
from thalweg.planning.speed.cache import autotune_cached

_GROUP = "precision."


def with_measured_numerics(plan: Plan, progress: Progress) -> Plan:
    """Choose batches that fit into memory, then the fastest numerics that are exact enough."""
    if not plan.steps:
        return plan
    progress.phase = "measuring"
    for choose in (with_fitting_batch, _with_fastest_numerics):
        chosen = choose(plan)
        progress.messages.extend(chosen.notes[len(plan.notes) :])
        plan = chosen
    return plan


def _with_fastest_numerics(plan: Plan) -> Plan:
    """The plan unchanged where the user set all the keys."""
    if all(_GROUP + key in plan.user_keys for key in asdict(plan.numerics)):
        return plan
    measured = measure_numerics(plan)
    edits = {_GROUP + key: value for key, value in asdict(measured.chosen).items()}
    return plan.edited(edits, note=measured.note)


def measure_numerics(plan: Plan, *, always: bool = False, fresh: bool = False) -> AutotuneResult:
    """Benchmark the plan's model and batch, or read an earlier benchmark unless `fresh`.

    With `always` even where the run is too short for it to pay.
    """
    decoding = plan.dataset.decoding
    with decoding.paused() if decoding is not None else nullcontext(), _threads_of_a_rank(plan):
        model = plan.build_model()
        batch = next(plan.training_stream(start=plan.first_final_size_batch))
        keys = plan.user_keys
        fixed = frozenset(key.removeprefix(_GROUP) for key in keys if key.startswith(_GROUP))
        if plan.recipe.devices > 1:
            fixed |= {"compile"}
        return autotune_cached(
            Subject(model=model, loss_fn=plan.task.loss_fn, batches=[batch]),
            plan.numerics,
            steps=plan.batches,
            fixed=fixed,
            always=always,
            fresh=fresh,
        )


@contextmanager
def _threads_of_a_rank(plan: Plan) -> Iterator[None]:
    """Use as many threads as each of the plan's ranks will have."""
    threads = torch.get_num_threads()
    if plan.recipe.devices > 1:
        torch.set_num_threads(cores_of_a_rank(plan.recipe.devices))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
