"""Refuse what cannot be trained, before the first step. All functions here raise UsageError."""

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from thalweg import models
from thalweg.data import DataFacts
from thalweg.data.images.progressive_resizing import resize_longer_side
from thalweg.data.load import check_image_size
from thalweg.data.modalities import MODALITIES
from thalweg.data.series.options import NO_TIME, SeriesOptions
from thalweg.data.sources.series_table import AUTOMATIC
from thalweg.data.split import Holdout
from thalweg.data.text.divide_text import TextOptions
from thalweg.distributed.ranks import is_one_of_many
from thalweg.errors import UsageError
from thalweg.models import MODELS, input_kind
from thalweg.optim import OPTIMIZERS, SCHEDULES
from thalweg.recipes.recipe import (
    AUTO,
    KEYS,
    AugmentRecipe,
    DataRecipe,
    Recipe,
    check_ranges,
)
from thalweg.registry import unknown_name
from thalweg.tasks import TASKS
from thalweg.tasks.forecast import FORECAST
from thalweg.tasks.losses import takes_soft_targets
from thalweg.tasks.penalties import PENALTIES

READS = {  # by kind of a network's inputs
    "numbers": "numbers",
    "series": "windows of series",
    "tokens": "windows of one long text",
    "pairs": "pairs of sequences",
    "texts": "short texts",
    "questions": "questions about images",
}


def check_edits(recipe: Recipe, edits: Collection[str]) -> None:
    """Check the values that the user set, by what is known before any data are read.

    `recipe` has them; of the other keys it has defaults, which mean nothing yet.
    """
    check_ranges(recipe, edits)
    data = recipe.data
    Holdout(
        val_fraction=data.val_fraction,
        test_fraction=data.test_fraction,
        folds=data.folds,
        fold=data.fold,
    ).check()
    check_image_size(data.image_size)
    text_options(data).check()
    series_options(recipe).check()
    if "model.name" in edits:
        _check_model_settings(recipe)
    if recipe.task.name != AUTO:
        TASKS[recipe.task.name]
    _check_loss(recipe)
    if recipe.task.penalty != "none":
        PENALTIES[recipe.task.penalty]
    if "optimizer.name" in edits:
        _check_optimizer_settings(recipe)
    elif "schedule.name" in edits:
        _check_schedule_settings(recipe)
    if "device" in edits:
        check_device(recipe.device)
    if "devices" in edits:
        check_devices(recipe, here=recipe.devices)


def series_options(recipe: Recipe) -> SeriesOptions:
    """The recipe's options of series; another task that the user names makes a table of a file."""
    data, task = recipe.data, recipe.task.name
    options = SeriesOptions(
        data.time, data.series, data.horizon, data.lags, data.season, task == FORECAST.name
    )
    return SeriesOptions(NO_TIME) if options == AUTOMATIC and task != AUTO else options


def _check_model_settings(recipe: Recipe) -> None:
    build = MODELS[recipe.model.name]
    parameters = inspect.signature(build).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    names = settings_of(build)
    for key in recipe.model.changes:
        if key not in names:
            raise unknown_name(f"setting of the model {recipe.model.name}", key, names)


def _check_loss(recipe: Recipe) -> None:
    """Check the loss's name against those of the task, or of all tasks while it is unknown."""
    name, task = recipe.task.loss, recipe.task.name
    tasks = TASKS.with_plugins() if task == AUTO else [TASKS[task]]
    losses = {loss for kind in tasks for loss in kind.losses}
    if name not in ("auto", *losses):
        raise unknown_name("loss" if task == AUTO else f"loss of the task {task}", name, losses)


def text_options(data: DataRecipe) -> TextOptions:
    """The options of texts and of pairs of them."""
    return TextOptions(data.context, data.tokenizer, data.pieces, data.source, data.split)


def check_recipe(recipe: Recipe, facts: DataFacts) -> None:
    """Check names, ranges, and keys that exclude each other."""
    _check_kind_of_inputs(recipe.model.name, facts)
    _check_ranges(recipe)
    _check_task(recipe, facts)
    _check_augmentation(recipe, facts)
    _check_test_time_augmentation(recipe, facts)
    _check_optimizer_settings(recipe)
    _check_schedule_settings(recipe)
    check_device(recipe.device)
    check_devices(recipe, here=recipe.devices)


def _check_kind_of_inputs(name: str, facts: DataFacts) -> None:
    """Refuse our networks where they read something else: shapes alone do not tell."""
    kind, modality = input_kind(name), MODALITIES[facts.modality]
    is_ours = MODELS[name].__module__.startswith(models.__name__)
    if kind in modality.feeds or not is_ours:
        return
    suitable = [model for model in MODELS if input_kind(model) in modality.feeds]
    raise UsageError(
        f"{name} reads {READS[kind]}, no {modality.noun}s",
        seen=f"the samples are {modality.noun}s",
        fix=f"leave --model out, or name one of {', '.join(suitable)}",
    )


def _check_ranges(recipe: Recipe) -> None:
    if recipe.transfer.method == "probe" and recipe.budget.epochs:
        raise UsageError(
            "transfer.method = probe fits a head in closed form, without epochs",
            seen=f"budget.epochs = {recipe.budget.epochs}",
            fix="--transfer last or --transfer all, or no --epochs",
        )
    check_ranges(recipe, KEYS)


def check_model(recipe: Recipe, model: nn.Module, facts: DataFacts) -> None:
    """Check that the network takes the batch size and the sizes of progressive resizing."""
    size = min(recipe.batch.size, facts.counts["train"])
    norms = [name for name, part in model.named_modules() if isinstance(part, _BatchNorm)]
    if size == 1 and norms:
        raise UsageError(
            "batch norm cannot normalise by a batch of one sample",
            seen=f"{recipe.model.name} has {len(norms)} batch norms; batch.size="
            f"{recipe.batch.size}, {facts.counts['train']} training samples",
            fix="batch.size=2 or more, or model.changes.norm=group where the model has it",
        )
    for side, share in recipe.augment.progressive_resizing.items():
        if reason := _resizing_error(side, share, model=model, shape=facts.input_shape):
            raise UsageError(
                "progressive resizing cannot use this size or this share",
                seen=f"augment.progressive_resizing.{side}={share}: {reason}",
                fix="sides in pixels below the image size, which the network takes, and shares of "
                'the training, such as augment.progressive_resizing = { "20" = 0.5 }',
            )


def _resizing_error(size: str, share: object, *, model: nn.Module, shape: tuple[int, ...]) -> str:
    """The reason against this size for this share of the training; "" if there is none."""
    if not (size.isdecimal() and 0 < int(size) < max(shape[1:])):
        return f"no side between 0 and {max(shape[1:])}"
    if not (isinstance(share, int | float) and 0 <= share <= 1):
        return "a share is from 0 to 1"
    images = resize_longer_side(torch.zeros(1, *shape).movedim(1, 3), size=int(size)).movedim(3, 1)
    try:
        with torch.no_grad():
            model.eval()(images)
    except (RuntimeError, ValueError) as error:
        return f"{type(model).__name__}: {' '.join(str(error).split())[:80]}"
    return ""


def _check_task(recipe: Recipe, facts: DataFacts) -> None:
    task = recipe.task
    if task.name != facts.task:
        raise UsageError(
            f"these targets make a {facts.task}",
            seen=f"task.name={task.name}",
            fix=f"task.name={facts.task}, or other targets",
        )
    kind = TASKS[task.name]
    loss = kind.standard_loss if task.loss == "auto" else task.loss
    if loss not in kind.losses and any(loss in other.losses for other in TASKS.values()):
        raise UsageError(
            f"{loss} is no loss for {task.name}",
            seen=f"task.loss={task.loss}",
            fix=f"one of {', '.join(kind.losses)}",
        )
    _check_settings("loss", loss, task.changes, build=kind.losses[loss])
    if task.label_smoothing and kind.answers != "classes":
        raise UsageError(
            "only the labels of classes can be smoothed",
            seen=f"task.label_smoothing={task.label_smoothing}, a {task.name}",
            fix="task.label_smoothing=0",
        )
    if recipe.transfer.method != "none" and kind.answers in ("tokens", "sequences", "other"):
        raise UsageError(
            "a head can be fitted for classes, labels and values only",
            seen=f"task.name={task.name}, transfer.method={recipe.transfer.method}",
            fix="--transfer none",
        )
    if task.penalty != "none":
        PENALTIES[task.penalty]
    if (task.penalty != "none") != (task.penalty_weight > 0):
        raise UsageError(
            "a penalty needs a name and a weight",
            seen=f"task.penalty={task.penalty}, task.penalty_weight={task.penalty_weight}",
            fix="such as task.penalty=l2, task.penalty_weight=1e-4",
        )


def _check_augmentation(recipe: Recipe, facts: DataFacts) -> None:
    augment, defaults, modality = recipe.augment, AugmentRecipe(), MODALITIES[facts.modality]
    names = [key.name for key in fields(augment) if key.name not in modality.augment_keys]
    changed = [name for name in names if getattr(augment, name) != getattr(defaults, name)]
    if changed:
        usable = ", ".join(f"augment.{name}" for name in sorted(modality.augment_keys))
        raise UsageError(
            f"{modality.noun}s cannot be augmented like that",
            seen=", ".join(f"augment.{name}={getattr(augment, name)}" for name in changed),
            fix=f"leave it out; {modality.noun}s can have {usable or 'no augmentation'}",
        )
    if augment.alternating_flip and not augment.flip:
        raise UsageError(
            "augment.alternating_flip needs augment.flip",
            seen="augment.alternating_flip=True, augment.flip=False",
            fix="augment.flip=true, or augment.alternating_flip=false",
        )
    if (augment.mixup or augment.cutmix) and not takes_soft_targets(recipe.task.loss):
        raise UsageError(
            f"{recipe.task.loss} needs one class per sample, but mixed samples have two",
            seen=f"augment.mixup={augment.mixup}, augment.cutmix={augment.cutmix}",
            fix="task.loss=cross_entropy, or no mixing",
        )


def _check_test_time_augmentation(recipe: Recipe, facts: DataFacts) -> None:
    evaluation, reason = recipe.evaluation, ""
    has_threshold = evaluation.confidence_threshold < 1
    if evaluation.test_time_augmentation == "none":
        reason = "a threshold without test-time augmentation" if has_threshold else ""
    elif not MODALITIES[facts.modality].has_augmented_views:
        reason = f"the samples are {MODALITIES[facts.modality].noun}s"
    elif recipe.transfer.method == "probe":
        reason = "a fitted head is evaluated on features; see transfer.copies_per_image"
    elif has_threshold and not facts.has_one_class:
        reason = "only a predicted class has a probability"
    if reason:
        raise UsageError(
            "test-time augmentation is not possible",
            seen=f"evaluation.test_time_augmentation={evaluation.test_time_augmentation}, "
            f"evaluation.confidence_threshold={evaluation.confidence_threshold}: {reason}",
            fix="evaluation.test_time_augmentation=none, evaluation.confidence_threshold=1",
        )


def _check_schedule_settings(recipe: Recipe) -> None:
    schedule = recipe.schedule
    build = SCHEDULES[schedule.name]
    _check_settings("schedule", schedule.name, schedule.changes, build=build)
    build(schedule.warmup, **schedule.changes)


def _check_optimizer_settings(recipe: Recipe) -> None:
    optimizer = recipe.optimizer
    build = OPTIMIZERS[optimizer.name]
    _check_settings("optimizer", optimizer.name, optimizer.changes, build=build)
    settings = {name: getattr(optimizer, name) for name in ("lr", "weight_decay", "momentum")}
    try:
        build([("weight", nn.Parameter(torch.zeros(1, 1)))], **settings, **optimizer.changes)
    except UsageError:
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{optimizer.name} does not accept these settings",
            seen=f"{settings | dict(optimizer.changes)}: {error}",
            fix="see docs/reference/optimizers.md",
        ) from error


def _check_settings(
    kind: str, name: str, changes: Mapping[str, object], *, build: Callable[..., object]
) -> None:
    names = settings_of(build)
    for key, value in changes.items():
        if key not in names:
            raise unknown_name(f"setting of the {kind} {name}", key, names)
        if isinstance(value, str):
            raise UsageError(
                f"{kind}.changes.{key} is a number", seen=repr(value), fix=f"{key} = 0.1"
            )


def settings_of(build: Callable[..., object]) -> Collection[str]:
    """Names that a recipe's `changes` may set: keyword-only parameters with a default."""
    parameters = inspect.signature(build).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty]


def check_device(device: str) -> None:
    """Check that this machine has the device."""
    try:
        torch.zeros(1, device=device).item()  # a meta tensor has no number
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"no device {device!r} here", seen=reason, fix="device = cpu") from error


def check_alone() -> None:
    """Refuse to train several runs in a process that torchrun started."""
    if is_one_of_many():
        raise UsageError(
            "torchrun cannot divide several runs",
            seen=f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}",
            fix="without torchrun; --devices N starts its processes for each run",
        )


def check_devices(recipe: Recipe, *, here: int) -> None:
    """Check that this machine has as many devices, and that the work can be divided."""
    if recipe.devices == 1:
        return
    there = torch.cuda.device_count() if recipe.device.startswith("cuda") else here
    refusals = (
        (recipe.devices < 1, "at least one device must train", "", "--devices 1"),
        (here > there, "this machine has fewer GPUs", f"{there} here", f"--devices {there}"),
        (
            recipe.device.startswith("cuda:"),
            "with several devices, the first GPUs are used",
            f"device = {recipe.device}",
            "--device cuda, and CUDA_VISIBLE_DEVICES to select some",
        ),
        (
            recipe.batch.size < recipe.devices,
            "a batch has fewer samples than there are devices",
            f"batch.size = {recipe.batch.size}",
            f"--batch-size {recipe.devices} or more",
        ),
        (
            recipe.transfer.method != "none",
            "only one process can train a pretrained network",
            f"transfer.method = {recipe.transfer.method}",
            "--devices 1, or --transfer none",
        ),
        (
            recipe.precision.compile,
            "only one process can compile the training step",
            "precision.compile = true",
            "--devices 1, or --precision.no-compile",
        ),
    )
    for is_refused, problem, seen, fix in refusals:
        if is_refused:
            count = f"devices = {recipe.devices}"
            raise UsageError(problem, seen=f"{count}, {seen}" if seen else count, fix=fix)
