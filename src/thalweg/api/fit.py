"""From a plan to a finished run: the one place where all the parts meet."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import rmtree
from time import monotonic
from typing import Any

from thalweg.api.build import dtype_of, training_stream
from thalweg.api.outcome import model_card, prediction_rows
from thalweg.api.parts import Best, Parts, StoppedError, known, opened, restore, save, scores
from thalweg.api.planning import Plan, plan, read_dataset, spec_of, views_of
from thalweg.api.precision import with_precision
from thalweg.api.progress import Progress
from thalweg.api.run import FailedRunError, InterruptedRunError, Run, replace_text
from thalweg.data import Batch, Batches
from thalweg.data.decoding import FoundLateError
from thalweg.data.load import finished
from thalweg.errors import RunError
from thalweg.export.saved_model import save_model
from thalweg.optim import SCHEDULES
from thalweg.recipes.recipe import recorded_recipe
from thalweg.record import claim_run_folder
from thalweg.training.checkpoint import latest_checkpoint
from thalweg.training.evaluate import Evaluation, evaluate
from thalweg.training.heap import keep_freed_memory
from thalweg.training.interrupt import Interrupt
from thalweg.training.late_losses import late_losses
from thalweg.training.loop import train as updates
from thalweg.training.nonfinite import (
    NonFiniteLossError,
    NonFiniteWeightsError,
    first_nonfinite,
)
from thalweg.training.views import ONE_VIEW, Views


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
    keep_freed_memory()
    try:
        return _train(path, out, progress, overlap=True, edits=edits, **options)
    except FoundLateError as late:
        progress.messages.append(f"begun again, without a file that is damaged: {late.seen}")
        late.decoding.join()
        return _train(path, out, progress, overlap=False, edits=edits, **options)


def _train(
    path: str | Path, out: str | Path, progress: Progress, *, overlap: bool, **options: Any
) -> Run:
    """With `overlap`, FoundLateError may be raised, and no run is left."""
    read = plan(path, progress=progress, overlap=overlap, **options)
    try:
        ready = with_precision(read, progress)
        folder = claim_run_folder(Path(out), Path(ready.recipe.data.path).resolve().name or "run")
        replace_text(folder / "recipe.toml", ready.recipe.to_toml())
        with _left_clean(folder):
            return carry_out(ready, folder, progress)
    finally:
        if read.dataset.decoding is not None:
            read.dataset.decoding.let_go()


@contextmanager
def _left_clean(folder: Path) -> Iterator[None]:
    """No trace of a run that is to begin again."""
    try:
        yield
    except FoundLateError:
        rmtree(folder)
        raise


def resume(run: str | Path, *, progress: Progress | None = None) -> Run:
    """Go on with a run that was stopped, from its newest whole checkpoint, to the same end."""
    progress = progress or Progress()
    keep_freed_memory()
    folder = Path(run)
    meta = known(folder)
    if meta.get("state") == "finished":
        return Run(folder)
    return carry_out(recorded_plan(folder, meta, progress), folder, progress)


def recorded_plan(folder: Path, meta: Mapping[str, Any], progress: Progress) -> Plan:
    """The plan that the run was made by, its data read again. RunError where they have changed."""
    recipe = recorded_recipe(folder)
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


def carry_out(plan: Plan, folder: Path, progress: Progress) -> Run:
    """Train from the newest checkpoint, or the beginning, to the end, and leave a whole run."""
    checkpoint = latest_checkpoint(folder / "checkpoints")
    with opened(plan, folder, checkpoint, progress=progress) as parts, Interrupt() as interrupt:
        try:
            best = restore(parts, checkpoint, interrupt)
            best = _fit(parts, best, start=checkpoint.step if checkpoint else 0, stop=interrupt)
        except (NonFiniteLossError, NonFiniteWeightsError) as error:
            raise _failed(parts, error) from error
        except StoppedError as stop:
            parts.writer.set("state", "interrupted")
            raise InterruptedRunError(folder, interrupt.exit_code) from stop
        state = "interrupted" if interrupt.signal else "finished"
        _finish(parts, best, state)
    if interrupt.signal:
        raise InterruptedRunError(folder, interrupt.exit_code)
    progress.phase = "done"
    return Run(folder)


def _fit(parts: Parts, best: Best, *, start: int, stop: Interrupt) -> Best:
    """The updates that are left; however they end, nothing goes on making batches for them."""
    begin = start * parts.plan.recipe.batch.accumulate
    with closing(training_stream(parts.plan, parts.train, start=begin, ahead=True)) as stream:
        return _updated(parts, best, stream, start=start, stop=stop)


def _updated(
    parts: Parts, best: Best, stream: Iterator[Batch], *, start: int, stop: Interrupt
) -> Best:
    """Make the updates that are left, with a validation and a checkpoint after each epoch."""
    recipe, progress, per_epoch = parts.plan.recipe, parts.progress, parts.plan.steps_per_epoch
    if _out_of_patience(parts, start, best):
        return best  # it had stopped, and was killed before it could say so
    progress.phase, saved_at = "training", monotonic()
    parts.clock.start("training")
    late = late_losses(parts.optimizer)
    for step in updates(
        parts.model,
        stream,
        parts.task.loss_fn,
        optimizer=parts.optimizer,
        schedule=SCHEDULES[recipe.schedule.name](recipe.schedule.warmup, **recipe.schedule.changes),
        steps=parts.plan.steps,
        start=start,
        accumulate=recipe.batch.accumulate,
        max_grad_norm=recipe.optimizer.max_grad_norm,
        dtype=dtype_of(parts.plan),
        penalty=parts.penalty,
        late=late,
    ):
        parts.watcher.step(step.loss, logits=step.logits, batch=(None, step.targets))
        done = step.index + 1
        if parts.average is not None:
            parts.average.update(step.index)
        progress.step, progress.loss = done, step.loss.detach()
        ended = done % per_epoch == 0 or done == parts.plan.steps
        due = monotonic() - saved_at > recipe.budget.checkpoint_seconds
        if late is not None and (ended or due or stop.signal):
            late.settle()  # nothing is judged or kept that a bad loss came before
        if ended:
            best = _validate(parts, done, best)
        if ended or due or stop.signal:
            save(parts, done, best)
            saved_at = monotonic()
        if stop.signal:
            parts.writer.event("interrupted", f"stopped by signal {stop.signal}", step=done)
            break
        if _out_of_patience(parts, done, best):
            break
    return best


def _out_of_patience(parts: Parts, done: int, best: Best) -> bool:
    """Whether an epoch has ended and too many went by since the best one."""
    patience, per_epoch = parts.plan.recipe.budget.patience, parts.plan.steps_per_epoch
    if not patience or done % per_epoch or done - best.step < patience * per_epoch:
        return False
    stopped = f"no better than after step {best.step} for {patience} epochs"
    parts.writer.event("stopped-early", stopped, step=done)
    return True


def _validate(parts: Parts, done: int, best: Best) -> Best:
    parts.progress.phase = "validating"
    parts.clock.start("validating")
    with parts.judged():
        judged = _evaluate(parts, parts.val)
    found = scores("val", judged)
    parts.watcher.log(**found)
    score = found[f"val_{parts.task.headline}"]
    parts.progress.metric = (f"val_{parts.task.headline}", score)
    parts.progress.phase = "training"
    parts.clock.start("training")
    return Best(done, score, judged) if score > best.score else best


def _finish(parts: Parts, best: Best, state: str) -> None:
    """Take the best weights; judge, save and report them."""
    if late := finished(parts.plan.dataset):
        parts.progress.messages.extend(late)
        parts.writer.set("notes", [*parts.plan.dataset.notes, *parts.plan.notes, *late])
    parts.progress.phase = "saving"
    parts.clock.start("saving")
    if best.is_known and best.step != parts.progress.step:
        kept = latest_checkpoint(parts.folder / "checkpoints", step=best.step)
        if kept is not None:
            kept.restore(parts.model, parts.optimizer, parts.average)
    if parts.average is not None:
        parts.model.load_state_dict(parts.average.average)
    # What was found when the best weights were new; after a resumption it is found again, and where
    # several views are averaged, which epochs do without. A test split waits for `final`.
    found = (None if views_of(parts.plan.recipe) != ONE_VIEW else best.found) or _final(parts, best)
    metrics = scores("val", found)
    parts.writer.set("metrics", metrics)
    parts.writer.predictions(prediction_rows(parts.plan, "val", found, task=parts.task))
    spec = spec_of(parts.plan)
    save_model(parts.folder / "model", parts.model, spec=spec, card=model_card(parts.plan, metrics))
    _close(parts, state)


def _final(parts: Parts, best: Best) -> Evaluation:
    """How the weights that are kept do on the validation split."""
    is_untrained = best.is_known and best.step == 0 and parts.average is None
    if parts.backbone is not None and is_untrained:
        return parts.backbone.evaluate("val")
    return _evaluate(parts, parts.val, views=views_of(parts.plan.recipe))


def _close(parts: Parts, state: str) -> None:
    """Diagnose, and leave a report that matches what is in the file."""
    found = parts.watcher.diagnose()
    parts.writer.findings(found.to_json())
    parts.writer.set("state", state)
    parts.clock.start("")
    parts.writer.set("time_spent", parts.clock.seconds)
    parts.writer.flush()
    Run(parts.folder).report()


def _failed(parts: Parts, error: NonFiniteLossError | NonFiniteWeightsError) -> FailedRunError:
    """The error for a training that left the numbers: where it shows, and what to change."""
    if isinstance(error, NonFiniteLossError) and parts.progress.step <= error.step:
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
    parts: Parts, error: NonFiniteLossError | NonFiniteWeightsError
) -> tuple[str, list[str]]:
    """What is not finite, in words, and the names of the batch's samples where it was a batch."""
    if isinstance(error, NonFiniteWeightsError):
        return f"weight {error.weight}", []
    number = error.step * parts.plan.recipe.batch.accumulate + error.micro_batch
    names = [parts.plan.dataset.names[row] for row in parts.train.rows(number).tolist()]
    place = first_nonfinite(parts.model, error.batch, parts.task.loss_fn) or "the loss alone"
    return f"{place}; a batch of {len(names)}: {', '.join(names[:3])}, …", names


def _evaluate(parts: Parts, batches: Batches, *, views: Views = ONE_VIEW) -> Evaluation:
    dtype = dtype_of(parts.plan)
    return evaluate(parts.model, batches, parts.task, dtype=dtype, views=views)
