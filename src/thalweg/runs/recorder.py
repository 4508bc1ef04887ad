"""RunRecorder: the first rank measures a session, saves checkpoints and writes the run's folder."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf, isfinite, isnan
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import nn

from thalweg import diagnosis, observe
from thalweg.data import Batch, Caveat, Dataset
from thalweg.diagnosis.live_verdict import LiveVerdict
from thalweg.distributed.ranks import Ranks
from thalweg.errors import RunError, shell_word
from thalweg.observe import Watcher
from thalweg.planning.plan import Plan
from thalweg.planning.progress import Progress
from thalweg.record import History, RunReader, RunWriter
from thalweg.record.environment import environment
from thalweg.record.quantities import NEAR_COPIED, WATCHED_BY
from thalweg.report.language_section import SAMPLE
from thalweg.runs.backbone import Backbone, FeatureBatches
from thalweg.runs.checkpoints import Checkpoints
from thalweg.runs.recipe_edits import EDITED, recipe_edits, recipe_fact
from thalweg.runs.results import split_scores
from thalweg.runs.session import Session, build_session
from thalweg.runs.written_sample import (
    LAST_LENGTH,
    LENGTH,
    first_sample_step,
    written_sample,
)
from thalweg.tasks import TASKS
from thalweg.training.checkpoint import Checkpoint, latest_checkpoint
from thalweg.training.evaluate import Evaluation
from thalweg.training.interrupt import Interrupt
from thalweg.training.loop import Step
from thalweg.wording import some

SHOWN = 160  # characters of a text that the network writes, in the progress
TIME_UP = "time-up"  # the kind of event
SPACING = 1.0  # s of training from one checkpoint to the next, at least


@dataclass(frozen=True, slots=True)
class BestStep:
    """The number of updates after which the weights scored best on the validation split.

    Of equal scores the one with the smaller loss is better, and of equal losses the earlier.
    """

    step: int = 0
    score: float = -float("inf")
    evaluation: Evaluation | None = None  # of those weights; None after a resumption
    loss: float = -float("inf")  # unknown in checkpoints of older versions: nothing ties with it

    @property
    def is_scored(self) -> bool:
        return self.score > -float("inf")

    def is_worse_than(self, score: float, loss: float) -> bool:
        """Return whether these scores of later weights are better."""
        return score > self.score or (score == self.score and loss < self.loss)

    def to_dict(self) -> dict[str, int | float | None]:
        """Its JSON values; None for a number that is not finite."""
        score, loss = (v if isfinite(v) else None for v in (self.score, self.loss))
        return {"step": self.step, "score": score, "loss": loss}


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


@dataclass(slots=True, kw_only=True)
class RunRecorder:
    """The record of a session: its measurements, scores, checkpoints and events."""

    session: Session
    folder: Path
    writer: RunWriter
    watcher: Watcher
    progress: Progress
    clock: Clock
    interrupt: Interrupt
    backbone: Backbone | None  # of a pretrained network
    best: BestStep = BestStep()
    checkpoints: Checkpoints
    edits: Sequence[str] = ()  # of the recipe since the run began
    was_begun: bool = False  # an update of this run has been recorded before
    first_sample: int = 0  # updates before the first text that the network writes; 0: none
    deadline: float = inf  # on the monotonic clock: training ends there, whole or not
    _saved_at: float = field(default_factory=monotonic)

    @property
    def plan(self) -> Plan:
        return self.session.plan

    @property
    def signal(self) -> int:
        """The number of the signal that asks the training to stop; 0: none."""
        return self.interrupt.signal

    @property
    def is_checkpoint_due(self) -> bool:
        return monotonic() - self._saved_at > self.plan.recipe.budget.checkpoint_seconds

    def enter(self, phase: str) -> None:
        """Show the phase and count its seconds."""
        self.progress.phase = phase
        self.clock.start(phase)

    def next_update(self, start: int) -> int | None:
        """`start`; None if early stopping was reached before a restart."""
        return None if self._stops_early(start) else start

    def record_update(self, step: Step) -> None:
        """Measure the update just made."""
        self.watcher.step(step.loss, logits=step.logits, batch=(None, step.targets))
        self.progress.step, self.progress.loss = step.index + 1, step.loss.detach()
        if step.index + 1 == self.first_sample:
            self.record_sample(step.index + 1)

    def record_validation(self, evaluation: Evaluation | None, done: int) -> None:
        """Record the scores after `done` updates, and whether they are the best."""
        assert evaluation is not None, "the first rank has the evaluation"
        scores, headline = split_scores("val", evaluation), f"val_{self.plan.task.headline}"
        self.watcher.log(**scores)
        score = scores[headline]
        self.progress.metric = (headline, score)
        if self.plan.task.lower_is_better:
            score = -score
        if self.best.is_worse_than(score, evaluation.loss):
            self.best = BestStep(done, score, evaluation, evaluation.loss)
        self.record_sample(done)
        self.enter("training")

    def record_sample(self, done: int) -> None:
        """Record and show a text that the network writes after `done` updates, if it writes any."""
        length = LAST_LENGTH if done == self.plan.steps else LENGTH
        if text := written_sample(self.session, length=length):
            shown = text.strip()[:SHOWN] + "…" * (len(text) > SHOWN)
            self.writer.event(SAMPLE, f"wrote: {shown}", step=done, text=text)
            self.progress.messages.append(f"step {done:,} writes: {shown}")

    def save(self, done: int) -> None:
        """Save a checkpoint: everything that a resumed run needs after `done` updates.

        After epochs that take a fraction of a second, most saves only hold the best weights: those
        on the disk may be a second old.
        """
        best = self.best
        entry: dict[str, Any] = {
            "done": done,
            "best": best.step if best.is_scored else -1,
            "extra": {"best": best.to_dict()},
        }
        is_due = self.is_checkpoint_due or monotonic() - self._saved_at >= SPACING
        if not (is_due or self.signal or done in (0, self.plan.steps)):
            self.checkpoints.hold_best(self.session, **entry)
            return
        self.clock.start("saving")
        self.writer.set("time_spent", self.clock.seconds)
        self.watcher.flush()  # what a resumed run will not measure again must be safe first
        self.writer.flush()
        was_failing = self.checkpoints.is_failing
        problem = self.checkpoints.save(self.session, **entry)
        if problem and not was_failing:
            self.announce("checkpoint-failed", self._checkpoint_failure(problem), step=done)
        self.clock.start("training")
        self._saved_at = monotonic()

    def _checkpoint_failure(self, problem: str) -> str:
        reason = problem.partition(";")[0]
        return (
            f"no checkpoint can be written ({reason}): training goes on without; free some space. "
            f"If it ends early, thalweg train --resume {shell_word(self.folder)} goes on from the "
            "last one"
        )

    def use_last_weights(self) -> None:
        """Keep the last weights as the run's, where the checkpoint of the best ones is lost."""
        lost, last = self.best.step, self.progress.step
        message = f"the checkpoint of the best weights, of step {lost}, is lost: the last are saved"
        self.announce("best-weights-lost", message, step=last)
        self.best = BestStep(last)

    def is_over(self, done: int, signal: int) -> bool:
        """Return whether training ends after `done` updates; record the reason."""
        if signal:
            self.writer.event("interrupted", f"stopped by signal {signal}", step=done)
        return bool(signal) or self._stops_early(done) or self._is_late(done)

    def announce(self, kind: str, message: str, *, step: int) -> None:
        """Record an event and show it."""
        self.writer.event(kind, message, step=step)
        self.progress.messages.append(message)

    def add_notes(self, notes: Sequence[str]) -> None:
        """Record notes beside those of the plan, and show them."""
        together = [*self.plan.notes, *notes]
        self.writer.set("notes", together)
        self.writer.set("caveats", _caveats(together))
        self.progress.messages.extend(notes)

    def _is_late(self, done: int) -> bool:
        """Return whether the time is up before the last update; record it."""
        if done >= self.plan.steps or monotonic() < self.deadline:
            return False
        message = f"ended after {done} of {self.plan.steps} steps: the time was up"
        self.writer.event(TIME_UP, message, step=done)
        return True

    def record_near_copies(self, dataset: Dataset) -> None:
        """Record the share of the validation samples that nearly are training samples."""
        _add_near_copies(self.watcher.history, dataset, self.progress.step)

    def _stops_early(self, done: int) -> bool:
        """Stop early after too many epochs without a better score: record it and return True."""
        patience, best = self.plan.recipe.budget.patience, self.best
        waited = done - best.step >= patience * self.plan.steps_per_epoch
        if not (patience and waited and self.plan.ends_with_validation(done)):
            return False
        reason = f"no better than after step {best.step} for {patience} epochs"
        self.writer.event("stopped-early", reason, step=done)
        return True


@contextmanager
def open_recorder(
    plan: Plan,
    folder: Path,
    checkpoint: Checkpoint | None,
    *,
    progress: Progress,
    ranks: Ranks,
    interrupt: Interrupt,
) -> Iterator[RunRecorder]:
    """Build the session and open every file of the run; close them whatever happens inside."""
    start = checkpoint.step if checkpoint else 0
    history = RunReader(folder).history_before(start) if start else History()
    facts = recorded_facts(folder)
    clock = Clock(facts.get("time_spent", {}))
    with plan.numerics.in_effect(), RunWriter(folder, resume_from=start) as writer:
        history.sink = writer.add
        session = build_session(plan, ranks)
        backbone = None
        if plan.recipe.transfer.method != "none":
            backbone = Backbone(
                plan=plan,
                model=session.model,
                progress=progress,
                interrupt=interrupt,
                way=str(facts.get("features_by", "")),
            )
        recorder = RunRecorder(
            session=session,
            folder=folder,
            writer=writer,
            watcher=_watch(session, backbone, progress, history=history, start=start),
            progress=progress,
            clock=clock,
            interrupt=interrupt,
            backbone=backbone,
            checkpoints=Checkpoints(folder / "checkpoints"),
            first_sample=first_sample_step(session),
            edits=(edits := recipe_edits(facts, plan.recipe)),
            was_begun=bool(facts.get("state")),
        )
        _describe(recorder, start)
        if edits:
            message = f"the recipe was edited since the run began: {some(edits)}"
            recorder.announce(EDITED, message, step=start)
        with recorder.watcher:
            yield recorder


def _watch(
    session: Session,
    backbone: Backbone | None,
    progress: Progress,
    *,
    history: History,
    start: int,
) -> Watcher:
    """Watch the model, or only the head where nothing else is trained."""
    plan, task = session.plan, session.plan.task
    model: nn.Module = session.model
    train: Iterable[Batch] = session.train
    val: Iterable[Batch] = session.val
    if backbone is not None and backbone.is_head_only:
        model = backbone.head
        train, val = FeatureBatches(backbone, "train"), FeatureBatches(backbone, "val")
    history.add(WATCHED_BY, start, {"trainer": 1.0})
    _add_near_copies(history, plan.dataset, start)
    return observe.watch(
        model,
        session.optimizer,
        loss_fn=task.loss_fn,
        task=task.name,
        train=train,
        val=val,
        num_classes=task.num_classes or None,
        history=history,
        diagnose=diagnosis.diagnose,
        check=LiveVerdict(progress.messages.append).check,
        first_step=start,
        chance_loss=None if isnan(task.chance_loss) else task.chance_loss,
        sharpness=plan.recipe.watch.sharpness,
    )


def _caveats(notes: Sequence[str]) -> list[dict[str, str]]:
    return [note.to_dict() for note in notes if isinstance(note, Caveat)]


def _add_near_copies(history: History, dataset: Dataset, step: int) -> None:
    """Record the share of near copies, of a data set whose validation split was given."""
    if dataset.near_copied is not None:
        history.add(NEAR_COPIED, step, {"": dataset.near_copied})


def _describe(recorder: RunRecorder, start: int) -> None:
    """Show how far the run is, and record the facts that a reader should have."""
    plan, progress, writer = recorder.plan, recorder.progress, recorder.writer
    progress.run, progress.step, progress.steps = recorder.folder, start, plan.steps
    progress.steps_per_epoch = plan.steps_per_epoch
    progress.batch_size = plan.recipe.batch.size * plan.recipe.batch.accumulate
    weights = recorder.session.model.parameters()
    facts = _run_facts(plan) | {"parameters": sum(weight.numel() for weight in weights)}
    for key, value in facts.items():
        writer.set(key, value)
    writer.quarantine([(item.name, item.reason) for item in plan.dataset.quarantined])


def _run_facts(plan: Plan) -> dict[str, Any]:
    """The facts that describe the run beside its measurements, as JSON values by name."""
    facts, recipe = plan.dataset.facts, plan.recipe
    return {
        "state": "running",
        "source": recipe.data.path,
        "recipe": recipe_fact(recipe),
        "task": facts.task,
        "answers": TASKS[facts.task].answers,
        "inputs": _input_words(plan.dataset),
        "headline_metric": f"val_{plan.task.headline}",
        "model": recipe.model.name,
        "class_names": list(plan.dataset.class_names),
        "counts": dict(facts.counts),
        "input_shape": list(facts.input_shape),
        "original_size": list(facts.original_size),
        "preprocessing": plan.dataset.preprocessing.to_dict(),
        "baselines": dict(plan.baselines),
        "steps": plan.steps,
        "steps_per_epoch": plan.steps_per_epoch,
        "epochs": recipe.budget.epochs,
        "batch_size": recipe.batch.size * recipe.batch.accumulate,
        "notes": list(plan.notes),
        "caveats": _caveats(plan.notes),
        "resizing": _stages(plan),
        "fingerprint": plan.dataset.fingerprint,
        "environment": environment() | {"threads": str(torch.get_num_threads())},
    }


def _stages(plan: Plan) -> list[list[int]]:
    """Progressive resizing: each side in pixels, and the updates made when its stage ends."""
    if plan.resizing is None:
        return []
    return [[side, end // plan.recipe.batch.accumulate] for side, end in plan.resizing.phases]


def _input_words(dataset: Dataset) -> dict[str, object]:
    """The noun for one sample, its size, and lines that describe the inputs, for the report."""
    facts, modality = dataset.facts, dataset.modality
    lines = dict(modality.describe(facts))
    return {"noun": modality.noun, "size": modality.size(facts), "lines": lines}


def recorded_facts(folder: Path) -> Mapping[str, Any]:
    """The facts that a run has recorded; none where it was killed before it recorded any."""
    try:
        return RunReader(folder).meta
    except RunError:
        if latest_checkpoint(folder / "checkpoints") is not None:
            raise  # a run with results whose record is lost is not silently begun again
        return {}
