"""Broadcast the first rank's plan; every rank reads the data itself and compares fingerprints."""

from dataclasses import replace
from pathlib import Path

from thalweg.distributed.ranks import Ranks
from thalweg.errors import DataError
from thalweg.planning.checks import check_devices
from thalweg.planning.make_plan import plan_of
from thalweg.planning.plan import Plan
from thalweg.planning.progress import Progress


def broadcast_plan(
    own: tuple[Plan | None, Path] | None, ranks: Ranks, progress: Progress
) -> tuple[Plan | None, Path]:
    """Return the first rank's plan and run folder on every rank, each with its own device.

    Raises: DataError where a rank's machine has other data.
    """
    plan, folder = own or (None, None)
    sent = None if plan is None else (plan.recipe, plan.dataset.fingerprint)
    received, folder = ranks.from_first((sent, folder))
    if received is None:
        return None, folder
    recipe, fingerprint = received
    plan = ranks.first_on_each_machine(lambda: plan or plan_of(recipe, progress))
    _check_same(plan, fingerprint, ranks)
    recipe = plan.recipe.edited({"devices": ranks.count})
    check_devices(recipe, here=ranks.count_here)
    if recipe.device.startswith("cuda"):
        recipe = recipe.edited({"device": f"cuda:{ranks.local_rank}"})
    return replace(plan, recipe=recipe), folder


def _check_same(plan: Plan, fingerprint: str, ranks: Ranks) -> None:
    if plan.dataset.fingerprint == fingerprint:
        return
    raise DataError(
        f"the data of rank {ranks.rank} are not those of rank 0",
        seen=f"{plan.recipe.data.path}: fingerprint {plan.dataset.fingerprint[:12]}…, "
        f"rank 0 has {fingerprint[:12]}…",
        fix="the same files on every machine, under the same path",
    )
