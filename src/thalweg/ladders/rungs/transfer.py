"""The strongest rung on photographs: a pretrained network, and a head fitted to what it sees."""

from time import perf_counter

import torch

from thalweg.data.dataset import DataFacts
from thalweg.errors import UsageError
from thalweg.ladders.rung import MissingError, RungMaker, TooLongError, classified_images_only
from thalweg.ladders.rungs.networks import Wanted, carried_out, settings
from thalweg.ladders.samples import Climbed, Ground
from thalweg.planning.plan import Plan, make_plan, spec_of
from thalweg.recipes.recipe import keys

METHOD = "transfer.method"
SMALLEST = 64  # px: what is smaller is no photograph
TIMED = 4  # images
JUDGED = 200  # training samples for the train score: each is a pass through a large network
OVERHEAD = 1.5  # the head, reading and saving, beside the features


def climb(ground: Ground) -> Climbed:
    """One pass through the frozen network, then a head. Raises: MissingError, TooLongError."""
    if METHOD not in keys():
        raise MissingError("this version has no pretrained networks")
    # A head is fitted by one process, however many train the other networks.
    edits = settings(ground, Wanted(ground.path, {METHOD: "probe"})) | {"devices": 1}
    try:
        ready = make_plan(ground.path, edits)
    except UsageError as error:  # the extra is not installed
        raise MissingError(error.problem, seen=error.seen, fix=error.fix) from error
    needed = OVERHEAD * sum(ready.dataset.facts.counts.values()) * _seconds_an_image(ready)
    if needed > ground.seconds:
        raise TooLongError(needed)
    return carried_out(ground, ready, name="transfer")._replace(
        chosen="frozen network, fitted head"
    )


def photographs_only(facts: DataFacts) -> str:
    if why := classified_images_only(facts):
        return why
    return "" if min(facts.input_shape[1:]) >= SMALLEST else f"needs photographs of {SMALLEST} px"


def _seconds_an_image(ready: Plan) -> float:
    model = spec_of(ready).build().to(ready.recipe.device).eval()
    images = torch.rand(TIMED, *ready.dataset.facts.input_shape, device=ready.recipe.device)
    with torch.inference_mode():
        model(images)
        begun = perf_counter()
        model(images).sum().item()  # waits for the device
    return (perf_counter() - begun) / TIMED


RUNG = RungMaker(
    name="transfer",
    title="transfer",
    kind="pretrained",
    climb=climb,
    unfit=photographs_only,
)
