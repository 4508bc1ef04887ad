"""A plan → a run: train, validate and save, in this process or in those that it launches."""

from contextlib import closing, suppress
from math import inf
from pathlib import Path

from thalweg.distributed.ranks import LostRankError, Ranks, lost_rank_errors
from thalweg.errors import TrainingError
from thalweg.planning.plan import Plan
from thalweg.planning.progress import Progress
from thalweg.runs.backbone import StoppedError
from thalweg.runs.finish import finish, report_failure
from thalweg.runs.launch import launch_ranks
from thalweg.runs.recorder import BestStep, RunRecorder, open_recorder
from thalweg.runs.results import split_scores
from thalweg.runs.run import InterruptedRunError, Run
from thalweg.runs.session import Session, build_session
from thalweg.training.checkpoint import Checkpoint, latest_checkpoint
from thalweg.training.deferred_loss_check import deferred_loss_check
from thalweg.training.evaluate import Evaluation
from thalweg.training.interrupt import Interrupt
from thalweg.training.loop import Step
from thalweg.training.nonfinite import NonFiniteLossError, NonFiniteWeightsError
from thalweg.training.state import hyperparameters, set_hyperparameters
from thalweg.wording import some


def run_plan(plan: Plan, folder: Path, progress: Progress, *, deadline: float = inf) -> Run:
    """Train from the newest checkpoint, or the beginning, to the end, and return the whole run.

    A plan of many devices is trained by ranks that are launched for it. At `deadline`, on the
    monotonic clock, one process ends the training early, with the weights that are best so far.
    """
    if plan.recipe.devices > 1:
        return launch_ranks(plan, folder, progress)
    return run_as_rank(plan, folder, progress, ranks=Ranks(), deadline=deadline)


def run_as_rank(
    plan: Plan, folder: Path, progress: Progress, *, ranks: Ranks, deadline: float = inf
) -> Run:
    """Train as a member of the process group; every rank returns the run."""
    if ranks.is_first:
        return _run_first_rank(plan, folder, progress, ranks=ranks, deadline=deadline)
    _run_other_rank(plan, ranks)
    return Run(folder)


def _run_first_rank(
    plan: Plan, folder: Path, progress: Progress, *, ranks: Ranks, deadline: float
) -> Run:
    checkpoint, interrupt = latest_checkpoint(folder / "checkpoints"), Interrupt()
    recording = open_recorder(
        plan, folder, checkpoint, progress=progress, ranks=ranks, interrupt=interrupt
    )
    with recording as recorder, interrupt:
        recorder.deadline = deadline
        try:
            start = _restore(recorder, checkpoint)
            with lost_rank_errors():
                fit(recorder.session, recorder, start=start)
        except LostRankError as error:
            recorder.writer.event("rank-lost", error.problem, seen=error.seen)
            recorder.writer.set("state", "interrupted")
            raise
        except (NonFiniteLossError, NonFiniteWeightsError) as error:
            raise report_failure(recorder, error) from error
        except StoppedError as stop:
            recorder.writer.set("state", "interrupted")
            raise InterruptedRunError(folder, interrupt.exit_code) from stop
        run = finish(recorder, "interrupted" if interrupt.signal else "finished")
    if interrupt.signal:
        raise InterruptedRunError(folder, interrupt.exit_code)
    progress.phase = "done"
    return run


def _run_other_rank(plan: Plan, ranks: Ranks) -> None:
    """Do this rank's part of each update and validation; the first rank does everything else."""
    with plan.numerics.in_effect(), Interrupt():
        session = build_session(plan, ranks)
        with suppress(NonFiniteLossError):  # the first rank meets the same loss, and reports it
            fit(session, NoRecorder(), start=0)


class NoRecorder:
    """The recorder of every rank but the first: it records nothing and decides nothing."""

    signal = 0
    is_checkpoint_due = False

    def enter(self, phase: str) -> None:
        pass

    def next_update(self, start: int) -> None:
        pass

    def record_update(self, step: Step) -> None:
        pass

    def record_validation(self, evaluation: Evaluation | None, done: int) -> None:
        pass

    def save(self, done: int) -> None:
        pass

    def is_over(self, done: int, signal: int) -> bool:
        return False


def fit(session: Session, recorder: RunRecorder | NoRecorder, *, start: int) -> None:
    """Make the updates that are left; validate after each epoch, and save checkpoints.

    Every rank runs this loop, so that all of them issue the same collectives in the same order.
    The first rank's recorder decides where training starts and when it is over.
    """
    plan, ranks = session.plan, session.ranks
    first: int | None = ranks.from_first(recorder.next_update(start))
    if first is None:
        return
    recorder.enter("training")
    deferred = deferred_loss_check(session.optimizer)
    with closing(session.updates(first, deferred)) as steps:  # ends prefetching, however this ends
        for step in steps:
            recorder.record_update(step)
            if session.average is not None:
                session.average.update(step.index)
            done, signal = step.index + 1, recorder.signal
            validates = plan.ends_with_validation(done)
            if validates or signal or recorder.is_checkpoint_due:
                if deferred is not None:
                    deferred.check_all()  # nothing is saved after a loss that is not finite
                if validates:
                    recorder.enter("validating")
                    recorder.record_validation(session.evaluate(), done)
                recorder.save(done)
            if ranks.decision_of_first(recorder.is_over(done, signal)):
                break


def _restore(recorder: RunRecorder, checkpoint: Checkpoint | None) -> int:
    """Restore the checkpoint, or save the first one; return the number of updates made.

    Raises: StoppedError after a signal before there is a checkpoint.
    """
    if checkpoint is None:
        if recorder.was_begun:
            message = "no checkpoint of the run is left: it begins anew"
            recorder.announce("checkpoints-lost", message, step=0)
        if recorder.backbone is not None:
            _fit_head(recorder)
        recorder.save(0)  # proves that the folder can be written, before the first epoch
        return 0
    session, writer = recorder.session, recorder.writer
    if checkpoint.step > session.plan.steps:
        raise _beyond_the_end(recorder, checkpoint)
    of_recipe = hyperparameters(session.optimizer)
    checkpoint.restore(session.model, session.optimizer, session.average)
    set_hyperparameters(session.optimizer, of_recipe)  # it may have been edited since
    for name in checkpoint.skipped:
        writer.event("checkpoint-damaged", f"{name} is damaged and was passed over")
    writer.event("resumed", f"went on after {checkpoint.step} steps", step=checkpoint.step)
    recorder.best = _best_step(checkpoint)
    return checkpoint.step


def _beyond_the_end(recorder: RunRecorder, checkpoint: Checkpoint) -> TrainingError:
    """The error for a checkpoint of a later update than the run's last one."""
    seen = f"step {checkpoint.step} of {recorder.plan.steps}"
    if recorder.edits:
        return TrainingError(
            "the recipe was edited so that the run had ended before its last checkpoint",
            seen=f"{seen}; {some(recorder.edits)}",
            fix="put recipe.toml back as it was, or start a new run",
        )
    return TrainingError(
        f"{checkpoint.path} is of another run",
        seen=seen,
        fix="delete that folder; the run goes on from the checkpoint before it",
    )


def _best_step(checkpoint: Checkpoint) -> BestStep:
    best = checkpoint.extra.get("best")
    values = best if isinstance(best, dict) else {}
    step, score, loss = (values.get(name) for name in ("step", "score", "loss"))
    are_numbers = all(isinstance(number, float | int | None) for number in (score, loss))
    if not isinstance(step, int) or not are_numbers:
        raise TrainingError(
            f"{checkpoint.path} cannot be resumed from",
            seen=f"best: {str(best)[:60]}",
            fix="delete that folder; the run goes on from the checkpoint before it",
        )
    return BestStep(
        step,
        -inf if score is None else float(score),
        loss=-inf if loss is None else float(loss),
    )


def _fit_head(recorder: RunRecorder) -> None:
    """Load the pretrained weights, fit the head to their features, and record its scores."""
    backbone, session, plan = recorder.backbone, recorder.session, recorder.plan
    assert backbone is not None
    recorder.clock.start("features")
    backbone.load()
    candidates = backbone.fit_head()
    recorder.writer.set("features_by", backbone.way)
    recorder.clock.start("judging")
    evaluation = backbone.evaluate("val")
    scores = split_scores("val", evaluation)
    if not plan.steps:  # else the first update's loss stands there
        train = backbone.evaluate("train")
        accuracy = {k: v for k, v in train.metrics.items() if k == "accuracy"}
        scores |= {"loss": train.loss} | accuracy
    recorder.watcher.log(**scores)
    metric, score = f"val_{plan.task.headline}", evaluation.metrics[plan.task.headline]
    chosen = f"head: {candidates[0]}, of {len(candidates)} that were tried"
    recorder.announce("head-fitted", f"{chosen}; {metric} {score:.4f}", step=0)
    if session.average is not None:
        for name, weight in session.model.state_dict().items():
            session.average.average[name].copy_(weight)  # it was made of fresh weights
    recorder.best = BestStep(0, score, evaluation, evaluation.loss)
