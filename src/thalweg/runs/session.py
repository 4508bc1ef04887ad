"""What a plan becomes once it is built, and how that is kept on disk while it is trained."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import nn

from thalweg import diagnosis, observe
from thalweg.data import Batches
from thalweg.distributed.data_parallel import prepare_for_ranks
from thalweg.distributed.ranks import Joint, Ranks
from thalweg.errors import RunError
from thalweg.observe import Watcher
from thalweg.optim.ema import WeightAverage
from thalweg.planning.plan import Plan
from thalweg.planning.progress import Progress
from thalweg.record import History, RunReader, RunWriter
from thalweg.runs.backbone import Backbone, FeatureBatches
from thalweg.runs.results import about
from thalweg.training.checkpoint import Checkpoint, latest_checkpoint, prune, save_checkpoint
from thalweg.training.evaluate import Evaluation
from thalweg.training.interrupt import Interrupt


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a plan becomes once it is built."""

    plan: Plan
    folder: Path
    model: nn.Module
    optimizer: torch.optim.Optimizer
    train: Batches
    val: Batches
    writer: RunWriter
    watcher: Watcher
    progress: Progress
    clock: "Clock"
    average: WeightAverage | None
    backbone: Backbone | None  # of a pretrained network
    joint: Joint  # with the other ranks, where there are any

    @contextmanager
    def judged(self) -> Iterator[nn.Module]:
        """The model with the weights that are judged and saved: its own, or their average."""
        if self.average is None:
            yield self.model
            return
        with self.average.averaged_model() as model:
            yield model


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What an earlier process left of the run: nothing much, or all up to its last checkpoint."""

    history: History
    start: int  # the next update to make
    clock: "Clock"
    ranks: Ranks  # this process among those that go on with it


@dataclass(frozen=True, slots=True)
class Best:
    """The step after which the weights scored best on the validation split."""

    step: int = 0
    score: float = -float("inf")
    found: Evaluation | None = None  # how they did; None after a resumption

    @property
    def is_known(self) -> bool:
        """Whether anything was scored yet."""
        return self.score > -float("inf")


class StoppedError(Exception):
    """A signal came while features were computed; those that were are kept."""


class Clock:
    """Seconds spent, by phase, over all the processes that worked on the run."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds = dict(seconds)
        self._phase, self._since = "", monotonic()

    def start(self, phase: str) -> None:
        now = monotonic()
        if self._phase:
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now


@contextmanager
def opened(
    plan: Plan,
    folder: Path,
    checkpoint: Checkpoint | None,
    *,
    progress: Progress,
    ranks: Ranks,
) -> Iterator[Parts]:
    """Everything built and every file open; closed again whatever happens inside."""
    start = checkpoint.step if checkpoint else 0
    history = RunReader(folder).history_before(start) if start else History()
    clock = Clock(known(folder).get("time_spent", {}))
    with plan.numerics.in_effect(), RunWriter(folder, resume_from=start) as writer:
        history.sink = writer.add
        begun = Begun(history=history, start=start, clock=clock, ranks=ranks)
        parts = _build(plan, folder, writer, begun=begun, progress=progress)
        _describe(parts)
        with parts.watcher:
            yield parts


def _build(
    plan: Plan, folder: Path, writer: RunWriter, *, begun: "Begun", progress: Progress
) -> Parts:
    recipe, task = plan.recipe, plan.task
    model = plan.build_model()
    optimizer = plan.build_optimizer(model)
    joint = prepare_for_ranks(model, begun.ranks)  # before it is watched
    train, val = plan.training_batches(), plan.evaluation_batches("val")
    backbone = _backbone(plan, model, progress=progress)
    is_fitted_only = backbone is not None and backbone.is_fitted_only
    watcher = observe.watch(
        backbone.head if backbone is not None and is_fitted_only else model,
        optimizer,
        loss_fn=task.loss_fn,
        task=task.name,
        train=FeatureBatches(backbone, "train") if backbone and is_fitted_only else train,
        val=FeatureBatches(backbone, "val") if backbone and is_fitted_only else val,
        num_classes=plan.dataset.facts.num_classes if task.name == "classification" else None,
        history=begun.history,
        diagnose=diagnosis.diagnose,
        first_step=begun.start,
        chance_loss=None if isnan(task.chance_loss) else task.chance_loss,
        sharpness=recipe.watch.sharpness,
    )
    progress.run, progress.step, progress.steps = folder, begun.start, plan.steps
    progress.steps_per_epoch = plan.steps_per_epoch
    progress.batch_size = recipe.batch.size * recipe.batch.accumulate
    return Parts(
        plan=plan,
        folder=folder,
        model=model,
        optimizer=optimizer,
        train=train,
        val=val,
        writer=writer,
        watcher=watcher,
        progress=progress,
        clock=begun.clock,
        average=plan.build_weight_average(model),
        backbone=backbone,
        joint=joint,
    )


def _backbone(plan: Plan, model: nn.Module, *, progress: Progress) -> Backbone | None:
    if plan.recipe.transfer.method == "none":
        return None
    return Backbone(
        recipe=plan.recipe, dataset=plan.dataset, model=model, task=plan.task, progress=progress
    )


def restore(parts: Parts, checkpoint: Checkpoint | None, stop: Interrupt) -> Best:
    """Put the checkpoint's state back, or write the first one; what was best so far.

    Raises: StoppedError where a signal came before there was a first one.
    """
    if checkpoint is None:
        first = _fitted(parts, stop) if parts.backbone else Best()
        save(parts, 0, first)  # proves that the folder can be written, before the first epoch
        return first
    checkpoint.restore(parts.model, parts.optimizer, parts.average)
    for damaged in checkpoint.skipped:
        parts.writer.event("checkpoint-damaged", f"{damaged} is damaged and was passed over")
    parts.writer.event("resumed", f"went on after {checkpoint.step} steps", step=checkpoint.step)
    best: dict[str, Any] = checkpoint.extra["best"]
    return Best(best["step"], best["score"] if best["score"] is not None else -float("inf"))


def _fitted(parts: Parts, stop: Interrupt) -> Best:
    """A pretrained network with the head that suits its features best: where the run begins."""
    assert parts.backbone is not None

    def check() -> None:
        if stop.signal:
            raise StoppedError

    parts.backbone.check = check
    parts.clock.start("features")
    parts.backbone.load()
    tried = parts.backbone.fit_head()
    parts.clock.start("judging")
    found = parts.backbone.evaluate("val")
    scored = scores("val", found)
    if not parts.plan.steps:  # else the first update's loss stands there
        train = parts.backbone.evaluate("train")
        scored |= {"loss": train.loss} | {k: v for k, v in train.metrics.items() if k == "accuracy"}
    parts.watcher.log(**scored)
    metric, score = f"val_{parts.plan.task.headline}", found.metrics[parts.plan.task.headline]
    said = f"head: {tried[0]}, of {len(tried)} that were tried; {metric} {score:.4f}"
    parts.writer.event("head-fitted", said, step=0)
    parts.progress.messages.append(said)
    if parts.average is not None:
        for name, value in parts.model.state_dict().items():
            parts.average.average[name].copy_(value)  # it was made of fresh weights
    return Best(0, score, found)


def scores(split: str, found: Evaluation) -> dict[str, float]:
    """Loss and metrics under the names that a run keeps them by: val_loss, val_accuracy, …"""
    return {f"{split}_loss": found.loss} | {f"{split}_{k}": v for k, v in found.metrics.items()}


def save(parts: Parts, done: int, best: Best) -> None:
    """Keep everything that a resumed run needs after `done` updates."""
    parts.clock.start("saving")
    parts.writer.set("time_spent", parts.clock.seconds)
    parts.watcher.flush()  # what a resumed run will not measure again must be safe first
    parts.writer.flush()
    score = best.score if best.is_known else None
    folder = parts.folder / "checkpoints"
    save_checkpoint(
        folder,
        step=done,
        model=parts.model,
        optimizer=parts.optimizer,
        average=parts.average,
        extra={"best": {"step": best.step, "score": score}},
    )
    prune(folder, keep=2, best=best.step if best.is_known else None)
    parts.clock.start("training")


def known(folder: Path) -> Mapping[str, Any]:
    """What the run says of itself; nothing where it was killed before it could say anything."""
    try:
        return RunReader(folder).meta
    except RunError:
        if latest_checkpoint(folder / "checkpoints") is not None:
            raise  # a run with results whose record is lost is not silently begun again
        return {}


def _describe(parts: Parts) -> None:
    facts = about(parts.plan)
    facts["parameters"] = sum(weight.numel() for weight in parts.model.parameters())
    for key, value in facts.items():
        parts.writer.set(key, value)
    bad = parts.plan.dataset.quarantined
    parts.writer.quarantine([(item.name, item.reason) for item in bad])
