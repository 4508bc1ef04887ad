"""From a plan to a finished run: the one place where all the parts meet."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from time import monotonic
from typing import Any

from thalweg.api.build import dtype_of
from thalweg.api.checks import check_alone, check_devices
from thalweg.api.ending import failed, finish
from thalweg.api.group import ends_epoch, follow, joint_updates, shared
from thalweg.api.launch import launched
from thalweg.api.parts import Best, Parts, StoppedError, known, opened, restore, save, scores
from thalweg.api.planning import Plan, plan, read_dataset
from thalweg.api.precision import with_precision
from thalweg.api.progress import Progress
from thalweg.api.run import InterruptedRunError, Run, replace_text
from thalweg.data.decoding import FoundLateError
from thalweg.errors import RunError
from thalweg.recipes.recipe import recorded_recipe
from thalweg.record import claim_run_folder
from thalweg.training.checkpoint import latest_checkpoint
from thalweg.training.distributed import evaluate_together
from thalweg.training.heap import keep_freed_memory
from thalweg.training.interrupt import Interrupt
from thalweg.training.late_losses import LateLosses, late_losses
from thalweg.training.loop import Step
from thalweg.training.nonfinite import NonFiniteLossError, NonFiniteWeightsError
from thalweg.training.ranks import LostRankError, Ranks, is_one_of_many, joined, naming_lost_ranks


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
    if is_one_of_many():
        return _as_rank(lambda: _claimed(path, out, progress, edits=edits, **options), progress)
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
    ready, folder = _claimed(path, out, progress, overlap=overlap, **options)
    try:
        with _left_clean(folder):
            return carry_out(ready, folder, progress)
    finally:
        if ready.dataset.decoding is not None:
            ready.dataset.decoding.let_go()


def _claimed(
    path: str | Path, out: str | Path, progress: Progress, **options: Any
) -> tuple[Plan, Path]:
    """The plan, and a new folder in `out` for its run, with the recipe in it."""
    read = plan(path, progress=progress, **options)
    try:
        ready = with_precision(read, progress)
        folder = claim_run_folder(Path(out), Path(ready.recipe.data.path).resolve().name or "run")
        replace_text(folder / "recipe.toml", ready.recipe.to_toml())
    except BaseException:
        if read.dataset.decoding is not None:
            read.dataset.decoding.let_go()
        raise
    return ready, folder


@contextmanager
def _left_clean(folder: Path) -> Iterator[None]:
    """No trace of a run that is to begin again."""
    try:
        yield
    except FoundLateError:
        rmtree(folder)
        raise


def resume(run: str | Path, *, devices: int | None = None, progress: Progress | None = None) -> Run:
    """Go on with a run that was stopped, from its newest whole checkpoint, to the same end.

    By as many `devices` as before, or by so many.
    """
    progress = progress or Progress()
    keep_freed_memory()
    folder = Path(run)
    if is_one_of_many():
        return _as_rank(lambda: _reopened(folder, progress), progress)
    ready, _ = _reopened(folder, progress)
    if ready is None:
        return Run(folder)
    if devices is not None:
        ready = replace(ready, recipe=ready.recipe.edited({"devices": devices}))
        check_devices(ready.recipe, here=devices)
    return carry_out(ready, folder, progress)


def _reopened(folder: Path, progress: Progress) -> tuple[Plan | None, Path]:
    """What is left to be done of a run: nothing where it has ended."""
    meta = known(folder)
    is_over = meta.get("state") == "finished"
    return (None if is_over else recorded_plan(folder, meta, progress)), folder


def _as_rank(prepare: Callable[[], tuple[Plan | None, Path]], progress: Progress) -> Run:
    """The run that this process trains as one of those that torchrun started.

    What `prepare` returns on the first rank, all of them carry out.
    """
    with joined() as ranks:
        plan, folder = shared(prepare() if ranks.is_first else None, ranks, progress)
        return Run(folder) if plan is None else carry_out(plan, folder, progress, ranks=ranks)


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


def carry_out(plan: Plan, folder: Path, progress: Progress, *, ranks: Ranks | None = None) -> Run:
    """Train from the newest checkpoint, or the beginning, to the end, and leave a whole run.

    Where the recipe asks for many devices and this process is none of `ranks`, by processes that
    are started for it.
    """
    if ranks is None:
        check_alone()
    if ranks is None and plan.recipe.devices > 1:
        return launched(plan, folder, progress)
    ranks = ranks or Ranks()
    if not ranks.is_first:
        follow(plan, ranks)
        return Run(folder)
    return _carried_out(plan, folder, progress, ranks=ranks)


def _carried_out(plan: Plan, folder: Path, progress: Progress, *, ranks: Ranks) -> Run:
    checkpoint = latest_checkpoint(folder / "checkpoints")
    files = opened(plan, folder, checkpoint, progress=progress, ranks=ranks)
    with files as parts, Interrupt() as interrupt:
        try:
            best = restore(parts, checkpoint, interrupt)
            with naming_lost_ranks():
                best = _fit(parts, best, start=checkpoint.step if checkpoint else 0, stop=interrupt)
        except LostRankError as error:
            parts.writer.event("rank-lost", error.problem, seen=error.seen)
            parts.writer.set("state", "interrupted")
            raise
        except (NonFiniteLossError, NonFiniteWeightsError) as error:
            raise failed(parts, error) from error
        except StoppedError as stop:
            parts.writer.set("state", "interrupted")
            raise InterruptedRunError(folder, interrupt.exit_code) from stop
        state = "interrupted" if interrupt.signal else "finished"
        finish(parts, best, state)
    if interrupt.signal:
        raise InterruptedRunError(folder, interrupt.exit_code)
    progress.phase = "done"
    return Run(folder)


def _fit(parts: Parts, best: Best, *, start: int, stop: Interrupt) -> Best:
    """Make the updates that are left, with a validation and a checkpoint after each epoch."""
    over = _out_of_patience(parts, start, best)  # and was killed before it could say so
    if parts.joint.ranks.from_first(None if over else start) is None:
        return best
    parts.progress.phase = "training"
    parts.clock.start("training")
    late = late_losses(parts.optimizer)
    steps = joint_updates(
        parts.plan,
        parts.model,
        parts.optimizer,
        joint=parts.joint,
        batches=parts.train,
        average=parts.average,
        start=start,
        late=late,
    )
    with closing(steps):  # however they end, nothing goes on making batches for them
        return _after_each(parts, best, steps, late=late, stop=stop)


def _after_each(
    parts: Parts, best: Best, steps: Iterator[Step], *, late: LateLosses | None, stop: Interrupt
) -> Best:
    progress, saved_at = parts.progress, monotonic()
    for step in steps:
        parts.watcher.step(step.loss, logits=step.logits, batch=(None, step.targets))
        done = step.index + 1
        if parts.average is not None:
            parts.average.update(step.index)
        progress.step, progress.loss = done, step.loss.detach()
        ended, signal = ends_epoch(parts.plan, done), stop.signal
        due = monotonic() - saved_at > parts.plan.recipe.budget.checkpoint_seconds
        if late is not None and (ended or due or signal):
            late.settle()  # nothing is judged or kept that a bad loss came before
        if ended:
            best = _validate(parts, done, best)
        if ended or due or signal:
            save(parts, done, best)
            saved_at = monotonic()
        if signal:
            parts.writer.event("interrupted", f"stopped by signal {signal}", step=done)
        if parts.joint.ranks.agreed(bool(signal) or _out_of_patience(parts, done, best)):
            break
    return best


def _out_of_patience(parts: Parts, done: int, best: Best) -> bool:
    """Whether an epoch has ended and too many went by since the best one."""
    patience, per_epoch = parts.plan.recipe.budget.patience, parts.plan.steps_per_epoch
    waited = done - best.step >= patience * per_epoch
    if not (patience and waited and ends_epoch(parts.plan, done)):
        return False
    stopped = f"no better than after step {best.step} for {patience} epochs"
    parts.writer.event("stopped-early", stopped, step=done)
    return True


def _validate(parts: Parts, done: int, best: Best) -> Best:
    parts.progress.phase = "validating"
    parts.clock.start("validating")
    with parts.judged() as model:
        judged = evaluate_together(
            model, parts.val, parts.task, ranks=parts.joint.ranks, dtype=dtype_of(parts.plan)
        )
    assert judged is not None  # as it is on the first rank
    found = scores("val", judged)
    parts.watcher.log(**found)
    score = found[f"val_{parts.task.headline}"]
    parts.progress.metric = (f"val_{parts.task.headline}", score)
    parts.progress.phase = "training"
    parts.clock.start("training")
    return Best(done, score, judged) if score > best.score else best
