"""The Hessian's spectrum and the loss landscape of a recorded run."""

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from math import inf
from pathlib import Path
from typing import Literal

import safetensors.torch
from torch import Tensor, nn

from thalweg.borrow import Subject
from thalweg.classical.checks import check_count
from thalweg.curvature import Landscape, Spectrum, draw, interpolation, landscape, spectrum
from thalweg.curvature.landscape import Directions
from thalweg.curvature.shape import shape_at
from thalweg.curvature.twice_differentiable import BatchNormMode
from thalweg.data import Batch, Batches
from thalweg.errors import RunError, UsageError
from thalweg.files import check_tensor_file, draft_of, replace_file
from thalweg.inference.saved_model import load_model
from thalweg.planning.make_plan import read_dataset
from thalweg.planning.progress import Progress
from thalweg.recipes.recipe import recorded_recipe
from thalweg.record.schema import json_safe

SAMPLES = 1024  # of the training split: of 256 of 512, λmax came out within 1 % of all
BATCH = 256
OTHERS = 8  # batches of other samples, for an error of what is measured on them
MOST_EIGENVALUES = 100
LEAST_POINTS = 3  # along a direction: the weights themselves, and one on each side of them
_PREFIX = "model."


def run_subject(run: str | Path, *, samples: int = SAMPLES) -> Subject:
    """The best model of a run, its loss, and a sample of its training data.

    Raises: RunError where there is no finished model, DataError where the data are gone.
    """
    subject, _ = _subject_and_others(run, samples=samples)
    return subject


def _subject_and_others(run: str | Path, *, samples: int) -> tuple[Subject, list[Batch]]:
    """The subject, and batches of other samples: of the training split, or of the validation's."""
    folder = Path(run)
    check_count(samples, name="samples", most=10**9, of="the number of training samples")
    saved = load_model(folder / "model")
    recipe = recorded_recipe(folder)
    dataset = read_dataset(recipe, Progress())
    size = min(BATCH, samples)
    stream = iter(Batches(dataset, "train", batch_size=size, shuffle=True))
    number = _count(dataset.facts.counts["train"], samples)
    batches, others = list(islice(stream, number)), list(islice(stream, max(number, OTHERS)))
    if not others:
        others = list(islice(Batches(dataset, "val", batch_size=size), max(number, OTHERS)))
    subject = Subject(
        model=saved.module,
        loss_fn=saved.spec.build_task(recipe.task).loss_fn,
        batches=batches,
    )
    return subject, others


def run_spectrum(
    run: str | Path, *, samples: int = SAMPLES, top: int = 5, batch_norm: BatchNormMode = "train"
) -> Spectrum:
    """The Hessian's spectrum at a run's best weights, and the shape of the loss there."""
    check_count(top, name="top", most=MOST_EIGENVALUES, of="the number of eigenvalues")
    subject, others = _subject_and_others(run, samples=samples)
    model, loss_fn, batches = subject.model, subject.loss_fn, subject.batches
    result = spectrum(model, loss_fn, batches, top=top, batch_norm=batch_norm)
    shape = shape_at(
        model, loss_fn, batches, spectrum=result, held_out=others, batch_norm=batch_norm
    )
    return replace(result, shape=shape)


def run_landscape(
    run: str | Path,
    *,
    directions: Directions = "random",
    dimensions: Literal[1, 2] = 2,
    samples: int = SAMPLES,
    points: int = 25,
    radius: float = 1.0,
    batch_norm: BatchNormMode = "train",
    other: str | Path | None = None,
) -> Landscape:
    """The loss around a run's best weights, or on the line to those of another run."""
    check_count(
        points,
        name="points",
        least=LEAST_POINTS,
        most=10**4,
        of="the number of points along a direction",
    )
    if not 0 < radius < inf:
        raise UsageError("radius must be positive", seen=f"radius = {radius}", fix="radius 1")
    subject = run_subject(run, samples=samples)
    if other is not None:
        return interpolation(
            subject.model,
            subject.loss_fn,
            subject.batches,
            other=load_model(Path(other) / "model").module.state_dict(),
            points=points,
            batch_norm=batch_norm,
        )
    return landscape(
        subject.model,
        subject.loss_fn,
        subject.batches,
        directions=directions,
        dimensions=dimensions,
        points=points,
        radius=radius,
        batch_norm=batch_norm,
        path=_saved_weights(Path(run), subject.model) if directions == "principal" else (),
    )


def save_picture(geometry: Spectrum | Landscape, run: str | Path) -> Path:
    """Draw into the run, as RUN/spectrum.svg or RUN/landscape.svg, and return the path.

    The numbers are saved beside the picture as .json, where the report reads both.
    """
    picture = Path(run) / f"{type(geometry).__name__.lower()}.svg"
    with draft_of(picture) as draft:
        draw(geometry, draft)
    numbers = json.dumps(json_safe(geometry.to_dict()), allow_nan=False)
    replace_file(picture.with_suffix(".json"), numbers + "\n")
    return picture


def _saved_weights(run: Path, model: nn.Module) -> list[Mapping[str, Tensor]]:
    """The weights in the run's checkpoints, oldest first, and the best ones."""
    states: list[Mapping[str, Tensor]] = []
    for path in sorted((run / "checkpoints").glob("step-*/state.safetensors")):
        check_tensor_file(path)
        tensors = safetensors.torch.load_file(path)
        states.append(
            {k.removeprefix(_PREFIX): v for k, v in tensors.items() if k.startswith(_PREFIX)}
        )
    if not states:
        raise RunError(
            f"{run} has no checkpoints, and so no path",
            fix="thalweg landscape RUN --directions random",
        )
    return [*states, model.state_dict()]


def _count(available: int, samples: int) -> int:
    size = min(BATCH, samples, available)
    return max(1, min(available, samples) // size)
