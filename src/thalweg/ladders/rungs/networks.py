"""The rungs that are trained: a run each, as long as the time allows, in the climb's folder."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from thalweg.data import Batches
from thalweg.inference.saved_model import load_model
from thalweg.ladders.rung import RungMaker, TooLongError, classified_images_only, images_only
from thalweg.ladders.samples import FEATURES_SIDE, JUDGED_TRAIN, PIXELS_SIDE, Climbed, Ground
from thalweg.planning.build import dtype_of, first_whole, model_and_optimizer, training_stream
from thalweg.planning.numerics import with_precision
from thalweg.planning.plan import Plan, make_plan, spec_of, training_task
from thalweg.runs.fit import carry_out
from thalweg.runs.run import Run, replace_text
from thalweg.training.evaluate import evaluate
from thalweg.training.loop import train as updates

STEPS = 8  # timed before the length is chosen, the first three not counted
OVERHEAD = 1.3  # validation, watching and saving, beside the updates
LARGE = 128  # px: from here on a residual network for photographs


class Wanted(NamedTuple):
    """A network, and the data that it is trained on."""

    path: str
    edits: Mapping[str, object]


def climb(ground: Ground, *, name: str, wanted: Wanted) -> Climbed:
    """Train for as many epochs as fit into the rung's time, and read the run's predictions."""
    edits = settings(ground, wanted)
    ready = make_plan(wanted.path, edits)
    fixed = "budget.epochs" in (ground.wishes.options or {})
    ready = with_precision(_affordable(ready, ground.seconds, fixed=fixed), ground.progress)
    return carried_out(ground, ready, name=name)


def settings(ground: Ground, wanted: Wanted) -> dict[str, object]:
    """Recipe keys of a rung's run: what the rung wants, and what the user does."""
    options = dict(ground.wishes.options or {})
    if wanted.path != ground.path:  # features: what was said of the data was done to make them
        options = {key: value for key, value in options.items() if not key.startswith("data.")}
    return {"seed": ground.wishes.seed, "device": ground.device, **wanted.edits, **options}


def carried_out(ground: Ground, ready: Plan, *, name: str, judged: int = JUDGED_TRAIN) -> Climbed:
    """The plan as a run in the climb's folder, and what it said of each validation sample.

    `judged` training samples are looked at for the train score.
    """
    folder = ground.folder / name
    folder.mkdir()
    replace_text(folder / "recipe.toml", ready.recipe.to_toml())
    run = carry_out(ready, folder, ground.progress)
    loss, score = _on_train(ready, run, judged)
    return Climbed(
        _predicted(ground, run),
        score,
        loss,
        parameters=int(run.reader.meta["parameters"]),
        chosen=_length(ready),
        run=name,
    )


def climb_features(ground: Ground) -> Climbed:
    """An MLP on HOG and hue: the features stay in the folder, for the run to be resumed from."""
    path = ground.folder / "features.npz"
    names = np.array(ground.dataset.class_names)
    arrays: dict[str, Any] = {}
    for split, vectors in zip(("train", "val"), ground.features, strict=True):
        arrays[f"x_{split}"] = vectors.cpu().numpy()
        arrays[f"y_{split}"] = names[ground.targets(split).cpu().numpy()]
    np.savez(path, **arrays)
    edits = {"model.name": "mlp", "model.changes": {"width": 512, "depth": 1, "dropout": 0.5}}
    return climb(ground, name="hog-mlp", wanted=Wanted(str(path.absolute()), edits))


def climb_inputs(ground: Ground, *, model: str, side: int) -> Climbed:
    edits: dict[str, object] = {"model.name": model}
    if ground.facts.kind == "image":
        edits["data.image_size"] = min(side, *ground.facts.input_shape[1:])
    return climb(ground, name=model, wanted=Wanted(ground.path, edits))


def climb_resnet(ground: Ground) -> Climbed:
    """ResNet-20 as for CIFAR, or from 128 px on the ResNet-18 of the recipe for photographs."""
    large = min(ground.facts.input_shape[1:]) >= LARGE
    edits: dict[str, object] = {"model.name": "resnet18" if large else "resnet20"}
    if large and ground.facts.counts["train"] < 5_000:
        edits["model.changes"] = {"width": 32}
    return climb(ground, name="resnet", wanted=Wanted(ground.path, edits))


def _affordable(ready: Plan, seconds: float, *, fixed: bool) -> Plan:
    """The plan, cut to the epochs that fit. Raises: TooLongError where not even one does."""
    if fixed:
        return ready
    epoch = OVERHEAD * ready.steps_per_epoch * _seconds_a_step(ready)
    epochs = min(ready.recipe.budget.epochs, int(seconds / epoch))
    if epochs < 1:
        raise TooLongError(epoch)
    recipe = ready.recipe.edited({"budget.epochs": epochs})
    return replace(ready, recipe=recipe)


def _length(ready: Plan) -> str:
    made, usual = ready.recipe.budget.epochs, ready.defaults.budget.epochs
    return f"{made} epochs" if made >= usual else f"{made} of {usual} epochs"


def _seconds_a_step(ready: Plan) -> float:
    """The median of a few updates of a copy, which is thrown away."""
    model, optimizer = model_and_optimizer(ready)
    task = training_task(spec_of(ready), ready.recipe)
    times = [perf_counter()]
    for step in updates(
        model,
        training_stream(ready, start=first_whole(ready)),
        task.loss_fn,
        optimizer=optimizer,
        schedule=lambda progress: 1.0,
        steps=min(STEPS, ready.steps),
    ):
        step.loss.item()  # waits for the device
        times.append(perf_counter())
    gaps = [b - a for a, b in pairwise(times)]
    return sorted(gaps[3:] or gaps)[len(gaps[3:] or gaps) // 2]


def _on_train(ready: Plan, run: Run, judged: int) -> tuple[float, float]:
    """Loss, unsmoothed, and score of the best weights on some training samples, unaugmented."""
    model = load_model(run.path / "model", device=ready.recipe.device)
    task = model.spec.build_task()
    rows = ready.dataset.indices["train"]
    rows = rows[:: max(1, len(rows) // judged)]  # from all over: files are sorted by class
    some = replace(ready.dataset, indices={**ready.dataset.indices, "train": rows})
    batches = Batches(some, "train", batch_size=256, device=ready.recipe.device)
    views, dtype = model.spec.views, dtype_of(ready)
    found = evaluate(model.module, batches, task, dtype=dtype, views=views)
    return found.loss, found.metrics[task.headline]


def _predicted(ground: Ground, run: Run) -> Tensor:
    """What the run's best weights said of each validation sample, in the order of the data."""
    rows = [row for row in run.reader.predictions if row.split == "val"]
    if not ground.classifies:
        return torch.tensor([float(row.predicted) for row in rows], dtype=torch.float64)
    index = {name: number for number, name in enumerate(ground.dataset.class_names)}
    return torch.tensor([index[row.predicted] for row in rows])


HOG_MLP = RungMaker(
    name="hog-mlp",
    title="HOG + hue, MLP",
    kind="feature network",
    climb=climb_features,
    unfit=classified_images_only,
)
MLP = RungMaker(
    name="mlp",
    title="MLP",
    kind="network",
    climb=partial(climb_inputs, model="mlp", side=PIXELS_SIDE),
)
CONVNET = RungMaker(
    name="convnet",
    title="ConvNet",
    kind="network",
    climb=partial(climb_inputs, model="convnet", side=FEATURES_SIDE),
    unfit=images_only,
)
RESNET = RungMaker(
    name="resnet",
    title="ResNet",
    kind="network",
    climb=climb_resnet,
    unfit=images_only,
)
