"""The strongest rung on photographs: a frozen pretrained network, and a head fitted to it."""

from time import perf_counter

import torch

from thalweg.data import DataFacts
from thalweg.errors import MissingPackageError, TooLongError, UsageError
from thalweg.ladders.ladder_data import LadderData
from thalweg.ladders.rung import (
    RungMaker,
    RungResult,
    classified_images_only,
)
from thalweg.ladders.rungs.networks import run_plan, rung_edits
from thalweg.planning.make_plan import make_plan
from thalweg.planning.plan import Plan

MIN_SIDE = 64  # px: a smaller image is no photograph
TIMED_IMAGES = 4
OVERHEAD = 1.5  # the head, reading and saving, beside the features


def fit_head(data: LadderData) -> RungResult:
    """Extract features with the frozen network and fit a head.

    Raises: MissingPackageError, TooLongError.
    """
    # A head is fitted by one process, however many train the other networks.
    edits = rung_edits(data, {"transfer.method": "probe"}) | {"devices": 1}
    try:
        plan = make_plan(data.path, edits)
    except UsageError as error:  # the extra is not installed
        raise MissingPackageError(error.problem, seen=error.seen, fix=error.fix) from error
    num_images = sum(plan.dataset.facts.counts.values())
    seconds = OVERHEAD * num_images * _measure_image_seconds(plan)
    if seconds > data.time_limit:
        raise TooLongError(seconds)
    result = run_plan(data, plan, name="transfer")
    return result._replace(chosen="frozen network, fitted head")


def photographs_only(facts: DataFacts) -> str:
    if reason := classified_images_only(facts):
        return reason
    return "" if min(facts.input_shape[1:]) >= MIN_SIDE else f"needs photographs of {MIN_SIDE} px"


def _measure_image_seconds(plan: Plan) -> float:
    model = plan.spec.build().to(plan.recipe.device).eval()
    images = torch.rand(TIMED_IMAGES, *plan.dataset.facts.input_shape, device=plan.recipe.device)
    with torch.inference_mode():
        model(images)
        start = perf_counter()
        model(images).sum().item()  # waits for the device
    return (perf_counter() - start) / TIMED_IMAGES


RUNG = RungMaker(
    name="transfer",
    title="transfer",
    kind="pretrained",
    run=fit_head,
    unfit_reason=photographs_only,
    share=0.9,  # nothing else is likely to be better
)
