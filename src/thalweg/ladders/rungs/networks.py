"""The rungs trained by gradient: one run each in the ladder's folder, as long as time allows."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import inf
from time import perf_counter
from typing import Any

import numpy as np
from torch import Tensor

from thalweg.data import Batches
from thalweg.errors import TooLongError
from thalweg.files import draft_of, replace_file
from thalweg.inference.saved_model import SavedModel, load_model
from thalweg.ladders.ladder_data import FEATURES_SIDE, PIXELS_SIDE, TRAIN_SCORE_SAMPLES, LadderData
from thalweg.ladders.rung import (
    RungMaker,
    RungResult,
    classified_images_only,
    equal_lengths_only,
    images_only,
    tables_only,
)
from thalweg.planning.make_plan import make_plan
from thalweg.planning.numerics import with_measured_numerics
from thalweg.planning.plan import Plan
from thalweg.runs import fit
from thalweg.runs.recorder import TIME_UP
from thalweg.runs.results import predicted_numbers
from thalweg.runs.run import Run
from thalweg.training.evaluate import evaluate
from thalweg.training.loop import train as updates

TIMED_STEPS = 8  # before the number of epochs is chosen; the first three are warm-up
FEWEST_STEPS = 2
OVERHEAD = 1.3  # validation, watching and saving, beside the updates
LARGE = 128  # px: from here on a residual network for photographs


def train_network(
    data: LadderData, edits: Mapping[str, object], *, name: str, path: str = ""
) -> RungResult:
    """Train for as many epochs as fit into the rung's time, on the features at `path` if named."""
    edits = rung_edits(data, edits, from_features=bool(path))
    plan = make_plan(path or data.path, edits)
    has_fixed_length = "budget.epochs" in (data.options.edits or {})
    if not has_fixed_length:
        plan = _shorten(plan, data.time_limit)
    return run_plan(data, with_measured_numerics(plan, data.progress), name=name)


def rung_edits(
    data: LadderData, edits: Mapping[str, object], *, from_features: bool = False
) -> dict[str, object]:
    """Recipe keys of a rung's run: the rung's own, then the user's."""
    user_edits = dict(data.options.edits or {})
    if from_features:  # the user's data options already acted when the features were extracted
        user_edits = {key: v for key, v in user_edits.items() if not key.startswith("data.")}
    own = {"seed": data.options.seed, "device": data.device, "evaluation.trees_seconds": 0.0}
    return {**own, **edits, **user_edits}  # trees have a rung of their own


def run_plan(data: LadderData, plan: Plan, *, name: str) -> RungResult:
    """Carry out the plan in the ladder's folder and read the run's validation predictions."""
    folder = data.folder / name
    folder.mkdir()
    replace_file(folder / "recipe.toml", plan.recipe.to_toml())
    run = fit.run_plan(plan, folder, data.progress, deadline=_deadline(data))
    model = load_model(run.path / "model", device=plan.recipe.device)
    train_loss, train_score = _evaluate_on_train(plan, model)
    return RungResult(
        _val_predictions(plan, run, model),
        train_score,
        train_loss,
        parameters=int(run.reader.meta["parameters"]),
        chosen=_epochs_text(plan, run),
        run=name,
    )


def train_on_features(data: LadderData) -> RungResult:
    """Train an MLP on HOG and hue; the features stay in the folder so that the run can resume."""
    path = data.folder / "features.npz"
    names = np.array(data.dataset.class_names)
    arrays: dict[str, Any] = {}
    for split, vectors in zip(("train", "val"), data.features, strict=True):
        arrays[f"x_{split}"] = vectors.cpu().numpy()
        arrays[f"y_{split}"] = names[data.targets(split).cpu().numpy()]
    with draft_of(path) as draft, draft.open("xb") as file:
        np.savez(file, **arrays)
    edits = {"model.name": "mlp", "model.changes": {"width": 512, "depth": 1, "dropout": 0.5}}
    return train_network(data, edits, name="hog-mlp", path=str(path.absolute()))


def train_on_inputs(data: LadderData, *, model: str, side: int) -> RungResult:
    edits: dict[str, object] = {"model.name": model}
    if data.dataset.modality.layout == "pixels":
        edits["data.image_size"] = min(side, *data.facts.input_shape[1:])
    return train_network(data, edits, name=model)


def train_resnet(data: LadderData) -> RungResult:
    """Train ResNet-20 as for CIFAR, or from 128 px on the ResNet-18 of the photograph recipe."""
    large = min(data.facts.input_shape[1:]) >= LARGE
    edits: dict[str, object] = {"model.name": "resnet18" if large else "resnet20"}
    if large and data.facts.counts["train"] < 5_000:
        edits["model.changes"] = {"width": 32}
    return train_network(data, edits, name="resnet")


def _shorten(plan: Plan, seconds: float) -> Plan:
    """Time some steps and cut the plan to the epochs that fit.

    Raises: TooLongError where not even one epoch fits.
    """
    timed = TIMED_STEPS if seconds > 0 else FEWEST_STEPS  # no time: only to say what it takes
    epoch_seconds = OVERHEAD * plan.steps_per_epoch * _measure_step_seconds(plan, steps=timed)
    epochs = min(plan.recipe.budget.epochs, int(seconds / epoch_seconds))
    if epochs < 1:
        raise TooLongError(epoch_seconds)
    return replace(plan, recipe=plan.recipe.edited({"budget.epochs": epochs}))


def _deadline(data: LadderData) -> float:
    """The time at which a training ends early; never where the user chose its length."""
    return inf if "budget.epochs" in (data.options.edits or {}) else data.rung_deadline


def _epochs_text(plan: Plan, run: Run) -> str:
    epochs, default = plan.recipe.budget.epochs, plan.defaults.budget.epochs
    text = f"{epochs} epochs" if epochs >= default else f"{epochs} of {default} epochs"
    is_late = any(event.kind == TIME_UP for event in run.reader.events)
    return f"{text}, cut short by the time" if is_late else text


def _measure_step_seconds(plan: Plan, *, steps: int) -> float:
    """Return the median time of a few updates of a throwaway model."""
    model = plan.build_model()
    optimizer = plan.build_optimizer(model)
    times = [perf_counter()]
    for step in updates(
        model,
        plan.training_stream(start=plan.first_full_size_batch),
        plan.task.loss_fn,
        optimizer=optimizer,
        schedule=lambda progress: 1.0,
        steps=min(steps, plan.steps),
    ):
        step.loss.item()  # waits for the device
        times.append(perf_counter())
    gaps = [b - a for a, b in pairwise(times)]
    return sorted(gaps[3:] or gaps)[len(gaps[3:] or gaps) // 2]


def _evaluate_on_train(plan: Plan, model: SavedModel) -> tuple[float, float]:
    """Unsmoothed loss and score of the best weights on some unaugmented training samples."""
    task = model.spec.build_task()
    rows = plan.dataset.indices["train"]
    every = max(1, len(rows) // TRAIN_SCORE_SAMPLES)
    rows = rows[::every]  # from all over: files are sorted by class
    sample = replace(plan.dataset, indices={**plan.dataset.indices, "train": rows})
    batches = Batches(sample, "train", batch_size=256, device=plan.recipe.device)
    views, dtype = model.spec.views, plan.dtype
    evaluation = evaluate(model.module, batches, task, dtype=dtype, views=views)
    return evaluation.loss, evaluation.metrics[task.headline]


def _val_predictions(plan: Plan, run: Run, model: SavedModel) -> Tensor:
    """Predictions of the best weights on the validation split, in the order of the data."""
    if run.val_predictions is not None:
        return run.val_predictions
    views, batches = model.spec.views, plan.evaluation_batches("val")
    evaluation = evaluate(model.module, batches, plan.task, dtype=plan.dtype, views=views)
    return predicted_numbers(plan.task, evaluation.logits)


HOG_MLP = RungMaker(
    name="hog-mlp",
    title="HOG + hue, MLP",
    kind="feature network",
    run=train_on_features,
    unfit_reason=classified_images_only,
)
MLP = RungMaker(
    name="mlp",
    title="MLP",
    kind="network",
    run=partial(train_on_inputs, model="mlp", side=PIXELS_SIDE),
    unfit_reason=equal_lengths_only,
)
TABULAR = RungMaker(
    name="tabular",
    title="network for tables",
    kind="network",
    run=partial(train_network, edits={}, name="tabular"),
    unfit_reason=tables_only,
)
CONVNET = RungMaker(
    name="convnet",
    title="ConvNet",
    kind="network",
    run=partial(train_on_inputs, model="convnet", side=FEATURES_SIDE),
    unfit_reason=images_only,
)
RESNET = RungMaker(
    name="resnet",
    title="ResNet",
    kind="network",
    run=train_resnet,
    unfit_reason=images_only,
)
