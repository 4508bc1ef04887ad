"""From a plan to a finished run: the updates, and what is done after each."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic

from thalweg.distributed.data_parallel import evaluate_together
from thalweg.distributed.ranks import LostRankError, Ranks, lost_rank_errors
from thalweg.planning.checks import check_alone
from thalweg.planning.plan import Plan
from thalweg.planning.progress import Progress
from thalweg.runs.finish import failed, finish
from thalweg.runs.launch import launched
from thalweg.runs.ranks import follow, joint_updates
from thalweg.runs.run import InterruptedRunError, Run
from thalweg.runs.session import Best, Parts, StoppedError, opened, restore, save, scores
from thalweg.training.checkpoint import latest_checkpoint
from thalweg.training.deferred_loss_check import DeferredLossCheck, deferred_loss_check
from thalweg.training.interrupt import Interrupt
from thalweg.training.loop import Step
from thalweg.training.nonfinite import NonFiniteLossError, NonFiniteWeightsError


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
            with lost_rank_errors():
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
    deferred = deferred_loss_check(parts.optimizer)
    steps = joint_updates(
        parts.plan,
        parts.model,
        parts.optimizer,
        joint=parts.joint,
        batches=parts.train,
        average=parts.average,
        start=start,
        deferred=deferred,
    )
    with closing(steps):  # however they end, nothing goes on making batches for them
        return _after_each(parts, best, steps, deferred=deferred, stop=stop)


def _after_each(
    parts: Parts,
    best: Best,
    steps: Iterator[Step],
    *,
    deferred: DeferredLossCheck | None,
    stop: Interrupt,
) -> Best:
    progress, saved_at = parts.progress, monotonic()
    for step in steps:
        parts.watcher.step(step.loss, logits=step.logits, batch=(None, step.targets))
        done = step.index + 1
        if parts.average is not None:
            parts.average.update(step.index)
        progress.step, progress.loss = done, step.loss.detach()
        ended, signal = parts.plan.ends_with_validation(done), stop.signal
        due = monotonic() - saved_at > parts.plan.recipe.budget.checkpoint_seconds
        if deferred is not None and (ended or due or signal):
            deferred.check_all()  # nothing is judged or kept that a bad loss came before
        if ended:
            best = _validate(parts, done, best)
        if ended or due or signal:
            save(parts, done, best)
            saved_at = monotonic()
        if signal:
            parts.writer.event("interrupted", f"stopped by signal {signal}", step=done)
        if parts.joint.ranks.decision_of_first(bool(signal) or _out_of_patience(parts, done, best)):
            break
    return best


def _out_of_patience(parts: Parts, done: int, best: Best) -> bool:
    """Whether an epoch has ended and too many went by since the best one."""
    patience, per_epoch = parts.plan.recipe.budget.patience, parts.plan.steps_per_epoch
    waited = done - best.step >= patience * per_epoch
    if not (patience and waited and parts.plan.ends_with_validation(done)):
        return False
    stopped = f"no better than after step {best.step} for {patience} epochs"
    parts.writer.event("stopped-early", stopped, step=done)
    return True


def _validate(parts: Parts, done: int, best: Best) -> Best:
    parts.progress.phase = "validating"
    parts.clock.start("validating")
    with parts.judged() as model:
        judged = evaluate_together(
            model, parts.val, parts.plan.task, ranks=parts.joint.ranks, dtype=parts.plan.dtype
        )
    assert judged is not None  # as it is on the first rank
    found = scores("val", judged)
    parts.watcher.log(**found)
    score = found[f"val_{parts.plan.task.headline}"]
    parts.progress.metric = (f"val_{parts.plan.task.headline}", score)
    parts.progress.phase = "training"
    parts.clock.start("training")
    return Best(done, score, judged) if score > best.score else best
