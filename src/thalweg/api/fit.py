"""From a plan to a finished run: the one place where all the parts meet."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import nn

from thalweg import diagnosis, observe
from thalweg.api.build import batches_of, model_and_optimizer, training_batches
from thalweg.api.outcome import about, model_card, prediction_rows
from thalweg.api.planning import Plan, plan, read_dataset, spec_of
from thalweg.api.progress import Progress
from thalweg.api.run import FailedRunError, InterruptedRunError, Run, replace_text
from thalweg.data import Batches
from thalweg.errors import RunError
from thalweg.export.saved_model import save_model
from thalweg.observe import Watcher
from thalweg.optim import SCHEDULES
from thalweg.recipes.recipe import Recipe, edits_from_toml
from thalweg.record import History, RunReader, RunWriter, claim_run_folder
from thalweg.tasks import Task
from thalweg.training.checkpoint import Checkpoint, latest_checkpoint, prune, save_checkpoint
from thalweg.training.evaluate import Evaluation, evaluate
from thalweg.training.interrupt import Interrupt
from thalweg.training.loop import train as updates
from thalweg.training.nonfinite import (
    NonFiniteLossError,
    NonFiniteWeightsError,
    first_nonfinite,
)


def train(
    path: str | Path = "",
    *,
    edits: Mapping[str, object] | None = None,
    out: str | Path = "runs",
    progress: Progress | None = None,
    **options: object,
) -> Run:
    """Train on the data at `path` and return the finished run.

    `options` are the short keys (model, epochs, lr, batch_size, image_size, seed, device), `edits`
    any dotted recipe key, such as {"optimizer.weight_decay": 0.1}. The run is a new folder in
    `out`.

    Raises DataError, UsageError, FailedRunError, InterruptedRunError.

    >>> import thalweg
    >>> run = thalweg.train("digits", epochs=2)  # doctest: +SKIP
    >>> run.metrics["val_accuracy"] > 0.9  # doctest: +SKIP
    True
    """
    progress = progress or Progress()
    ready = plan(path, edits=edits, progress=progress, **options)
    stem = Path(ready.recipe.data.path).resolve().name or "run"
    folder = claim_run_folder(Path(out), stem)
    replace_text(folder / "recipe.toml", ready.recipe.to_toml())
    return carry_out(ready, folder, progress)


def resume(run: str | Path, *, progress: Progress | None = None) -> Run:
    """Go on with a run that was stopped, from its newest whole checkpoint, to the same end."""
    progress = progress or Progress()
    folder = Path(run)
    meta = _known(folder)
    if meta.get("state") == "finished":
        return Run(folder)
    return carry_out(recorded_plan(folder, meta, progress), folder, progress)


def recorded_plan(folder: Path, meta: Mapping[str, Any], progress: Progress) -> Plan:
    """The plan that the run was made by, its data read again. RunError where they have changed."""
    recipe = Recipe().edited(_recorded(folder / "recipe.toml"))
    dataset = read_dataset(recipe.flat(), progress)
    recorded = meta.get("fingerprint", dataset.fingerprint)
    if recorded != dataset.fingerprint:
        raise RunError(
            f"the data of {folder} has changed since the run began",
            seen=f"{recipe.data.path}: fingerprint {dataset.fingerprint[:12]}…, "
            f"recorded {recorded[:12]}…",
            fix="put the data back as it was, or start a new run",
        )
    return Plan(recipe=recipe, defaults=recipe, dataset=dataset)


def _known(folder: Path) -> Mapping[str, Any]:
    """What the run says of itself; nothing where it was killed before it could say anything."""
    try:
        return RunReader(folder).meta
    except RunError:
        if latest_checkpoint(folder / "checkpoints") is not None:
            raise  # a run with results whose record is lost is not silently begun again
        return {}


def _recorded(path: Path) -> dict[str, object]:
    if not path.exists():
        raise RunError(
            f"{path.parent} is no run that can be resumed",
            seen=f"{path} does not exist",
            fix="the folder of a run, as `thalweg runs` lists them",
        )
    return edits_from_toml(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What a plan becomes once it is built."""

    plan: Plan
    folder: Path
    model: nn.Module
    optimizer: torch.optim.Optimizer
    task: Task
    train: Batches
    val: Batches
    writer: RunWriter
    watcher: Watcher
    progress: Progress
    clock: "_Clock"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """What an earlier process left of the run: nothing much, or all up to its last checkpoint."""

    history: History
    start: int  # the next update to make
    clock: "_Clock"


@dataclass(frozen=True, slots=True)
class _Best:
    """The step after which the weights scored best on the validation split."""

    step: int = 0
    score: float = -float("inf")


class _Clock:
    """Seconds spent, by phase, over all the processes that worked on the run."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds = dict(seconds)
        self._phase, self._since = "", monotonic()

    def start(self, phase: str) -> None:
        now = monotonic()
        if self._phase:
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now


def carry_out(plan: Plan, folder: Path, progress: Progress) -> Run:
    """Train from the newest checkpoint, or the beginning, to the end, and leave a whole run."""
    checkpoint = latest_checkpoint(folder / "checkpoints")
    with _opened(plan, folder, checkpoint, progress=progress) as parts, Interrupt() as interrupt:
        best = _restore(parts, checkpoint)
        try:
            best = _fit(parts, best, start=checkpoint.step if checkpoint else 0, stop=interrupt)
        except (NonFiniteLossError, NonFiniteWeightsError) as error:
            raise _failed(parts, error) from error
        state = "interrupted" if interrupt.signal else "finished"
        _finish(parts, best, state)
    if interrupt.signal:
        raise InterruptedRunError(folder, interrupt.exit_code)
    progress.phase = "done"
    return Run(folder)


@contextmanager
def _opened(
    plan: Plan, folder: Path, checkpoint: Checkpoint | None, *, progress: Progress
) -> Iterator[_Parts]:
    """Everything built and every file open; closed again whatever happens inside."""
    start = checkpoint.step if checkpoint else 0
    history = RunReader(folder).history_before(start) if start else History()
    clock = _Clock(_known(folder).get("time_spent", {}))
    with RunWriter(folder, resume_from=start) as writer:
        history.sink = writer.add
        begun = _Begun(history=history, start=start, clock=clock)
        parts = _build(plan, folder, writer, begun=begun, progress=progress)
        _describe(parts)
        with parts.watcher:
            yield parts


def _build(
    plan: Plan, folder: Path, writer: RunWriter, *, begun: "_Begun", progress: Progress
) -> _Parts:
    recipe, task = plan.recipe, spec_of(plan).build_task(plan.recipe.task.label_smoothing)
    model, optimizer = model_and_optimizer(plan)
    train, val = training_batches(plan), batches_of(plan, "val")
    watcher = observe.watch(
        model,
        optimizer,
        loss_fn=task.loss_fn,
        task=task.name,
        train=train,
        val=val,
        num_classes=plan.dataset.facts.num_classes if task.name == "classification" else None,
        history=begun.history,
        diagnose=diagnosis.diagnose,
        first_step=begun.start,
    )
    progress.run, progress.step, progress.steps = folder, begun.start, plan.steps
    progress.steps_per_epoch = plan.steps_per_epoch
    progress.batch_size = recipe.batch.size * recipe.batch.accumulate
    return _Parts(
        plan=plan,
        folder=folder,
        model=model,
        optimizer=optimizer,
        task=task,
        train=train,
        val=val,
        writer=writer,
        watcher=watcher,
        progress=progress,
        clock=begun.clock,
    )


def _restore(parts: _Parts, checkpoint: Checkpoint | None) -> _Best:
    if checkpoint is None:
        _save(parts, 0, _Best())  # proves that the folder can be written, before the first epoch
        return _Best()
    checkpoint.restore(parts.model, parts.optimizer)
    for damaged in checkpoint.skipped:
        parts.writer.event("checkpoint-damaged", f"{damaged} is damaged and was passed over")
    parts.writer.event("resumed", f"went on after {checkpoint.step} steps", step=checkpoint.step)
    best: dict[str, Any] = checkpoint.extra["best"]
    return _Best(best["step"], best["score"] if best["score"] is not None else -float("inf"))


def _fit(parts: _Parts, best: _Best, *, start: int, stop: Interrupt) -> _Best:
    """Make the updates that are left, with a validation and a checkpoint after each epoch."""
    recipe, progress, per_epoch = parts.plan.recipe, parts.progress, parts.plan.steps_per_epoch
    progress.phase, saved_at = "training", monotonic()
    parts.clock.start("training")
    for step in updates(
        parts.model,
        parts.train.stream(start * recipe.batch.accumulate),
        parts.task.loss_fn,
        optimizer=parts.optimizer,
        schedule=SCHEDULES[recipe.schedule.name](recipe.schedule.warmup),
        steps=parts.plan.steps,
        start=start,
        accumulate=recipe.batch.accumulate,
        max_grad_norm=recipe.optimizer.max_grad_norm,
        dtype=getattr(torch, recipe.precision.dtype),
    ):
        parts.watcher.step(step.loss, logits=step.logits, batch=(None, step.targets))
        done = step.index + 1
        progress.step, progress.loss = done, step.loss.detach()
        if done % per_epoch == 0 or done == parts.plan.steps:
            best = _validate(parts, done, best)
        due = monotonic() - saved_at > recipe.budget.checkpoint_seconds
        if done % per_epoch == 0 or done == parts.plan.steps or due or stop.signal:
            _save(parts, done, best)
            saved_at = monotonic()
        if stop.signal:
            parts.writer.event("interrupted", f"stopped by signal {stop.signal}", step=done)
            break
    return best


def _validate(parts: _Parts, done: int, best: _Best) -> _Best:
    parts.progress.phase = "validating"
    parts.clock.start("validating")
    found = scores("val", _evaluate(parts, parts.val))
    parts.watcher.log(**found)
    score = found[f"val_{parts.task.headline}"]
    parts.progress.metric = (f"val_{parts.task.headline}", score)
    parts.progress.phase = "training"
    parts.clock.start("training")
    return _Best(done, score) if score > best.score else best


def _save(parts: _Parts, done: int, best: _Best) -> None:
    parts.clock.start("saving")
    parts.writer.set("time_spent", parts.clock.seconds)
    parts.watcher.flush()  # what a resumed run will not measure again must be safe first
    parts.writer.flush()
    score = best.score if best.step else None
    folder = parts.folder / "checkpoints"
    save_checkpoint(
        folder,
        step=done,
        model=parts.model,
        optimizer=parts.optimizer,
        extra={"best": {"step": best.step, "score": score}},
    )
    prune(folder, keep=2, best=best.step or None)
    parts.clock.start("training")


def _finish(parts: _Parts, best: _Best, state: str) -> None:
    """Take the best weights; judge, save and report them."""
    parts.progress.phase = "saving"
    parts.clock.start("saving")
    if best.step and best.step != parts.progress.step:
        kept = latest_checkpoint(parts.folder / "checkpoints", step=best.step)
        if kept is not None:
            kept.restore(parts.model, parts.optimizer)
    found = _evaluate(parts, parts.val)  # a test split waits for `final`
    metrics = scores("val", found)
    parts.writer.set("metrics", metrics)
    parts.writer.predictions(prediction_rows(parts.plan, "val", found, task=parts.task))
    spec = spec_of(parts.plan)
    save_model(parts.folder / "model", parts.model, spec=spec, card=model_card(parts.plan, metrics))
    _close(parts, state)


def _close(parts: _Parts, state: str) -> None:
    """Diagnose, and leave a report that matches what is in the file."""
    found = parts.watcher.diagnose()
    parts.writer.findings(found.to_json())
    parts.writer.set("state", state)
    parts.clock.start("")
    parts.writer.set("time_spent", parts.clock.seconds)
    parts.writer.flush()
    Run(parts.folder).report()


def _failed(parts: _Parts, error: NonFiniteLossError | NonFiniteWeightsError) -> FailedRunError:
    """The error for a training that left the numbers: where it shows, and what to change."""
    if isinstance(error, NonFiniteLossError):
        parts.watcher.step(error.loss)  # it belongs to the history that is diagnosed
    seen, names = _bad_place(parts, error)
    parts.writer.event("not-finite", error.problem, step=error.step, seen=seen, samples=names)
    _close(parts, "failed")
    headline = Run(parts.folder).diagnosis.headline
    cure = headline.prescriptions[0].change if headline and headline.prescriptions else error.fix
    failure = FailedRunError(error.problem, seen=seen, fix=f"{cure}; the run is in {parts.folder}")
    failure.path = parts.folder
    return failure


def _bad_place(
    parts: _Parts, error: NonFiniteLossError | NonFiniteWeightsError
) -> tuple[str, list[str]]:
    """What is not finite, in words, and the names of the batch's samples where it was a batch."""
    if isinstance(error, NonFiniteWeightsError):
        return f"weight {error.weight}", []
    number = error.step * parts.plan.recipe.batch.accumulate + error.micro_batch
    names = [parts.plan.dataset.names[row] for row in parts.train.rows(number).tolist()]
    place = first_nonfinite(parts.model, error.batch, parts.task.loss_fn) or "the loss alone"
    return f"{place}; a batch of {len(names)}: {', '.join(names[:3])}, …", names


def _evaluate(parts: _Parts, batches: Batches) -> Evaluation:
    dtype = getattr(torch, parts.plan.recipe.precision.dtype)
    return evaluate(parts.model, batches, parts.task, dtype=dtype)


def scores(split: str, found: Evaluation) -> dict[str, float]:
    """Loss and metrics under the names that a run keeps them by: val_loss, val_accuracy, …"""
    return {f"{split}_loss": found.loss} | {f"{split}_{k}": v for k, v in found.metrics.items()}


def _describe(parts: _Parts) -> None:
    known = about(parts.plan, headline=parts.task.headline)
    known["parameters"] = sum(weight.numel() for weight in parts.model.parameters())
    for key, value in known.items():
        parts.writer.set(key, value)
    bad = parts.plan.dataset.quarantined
    parts.writer.quarantine([(item.name, item.reason) for item in bad])
