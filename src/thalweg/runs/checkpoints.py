"""Save a run's checkpoints; on a full disk, make room, warn, and go on training."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from thalweg.errors import TrainingError
from thalweg.runs.session import Session
from thalweg.training.checkpoint import (
    UnwritableCheckpointError,
    latest_checkpoint,
    prune,
    save_checkpoint,
)

State = Mapping[str, Tensor]


@dataclass(slots=True)
class Checkpoints:
    """The checkpoints of a run: the newest two, and the one of the best weights.

    Best weights that the disk does not take are held in memory until the end.
    """

    folder: Path
    is_failing: bool = False  # the last save failed
    _unsaved: tuple[State, State] | None = field(default=None, repr=False)  # weights, average

    def save(self, session: Session, *, done: int, extra: Mapping[str, Any], best: int) -> str:
        """Save the session after `done` updates; `best` is the step of the best weights, −1: none.

        Returns the reason where the disk takes no checkpoint, else "". The first must succeed.
        Raises: TrainingError where there is none yet, or for weights that are not finite.
        """
        problem = self._try(session, done, extra)
        if problem and done == 0:
            raise problem
        protected = best if best >= 0 else None
        if problem:
            self.make_room(best)
            problem = self._try(session, done, extra)
        self.is_failing = problem is not None
        if best == done:
            self._unsaved = _copy(session) if problem else None
        if problem:
            return problem.seen
        prune(self.folder, keep=2, best=protected)
        return ""

    def make_room(self, best: int) -> None:
        """Delete all checkpoints but the newest and the one of the best weights."""
        with suppress(TrainingError):  # the write that follows says what is wrong
            prune(self.folder, keep=1, best=best if best >= 0 else None)

    def restore_best(self, session: Session, step: int) -> bool:
        """Restore the best weights, of that step, from disk or memory; False: they are lost."""
        if self._unsaved is not None:
            weights, average = self._unsaved
            session.model.load_state_dict(weights)
            if session.average is not None:
                session.average.load(average)
            return True
        checkpoint = latest_checkpoint(self.folder, step=step)
        if checkpoint is not None:
            checkpoint.restore(session.model, session.optimizer, session.average)
        return checkpoint is not None

    def _try(
        self, session: Session, done: int, extra: Mapping[str, Any]
    ) -> UnwritableCheckpointError | None:
        try:
            save_checkpoint(
                self.folder,
                step=done,
                model=session.model,
                optimizer=session.optimizer,
                average=session.average,
                extra=extra,
            )
        except UnwritableCheckpointError as error:
            return error
        return None


def _copy(session: Session) -> tuple[State, State]:
    def on_cpu(state: State) -> State:
        return {name: weight.detach().to("cpu", copy=True) for name, weight in state.items()}

    average = {} if session.average is None else session.average.average
    return on_cpu(session.model.state_dict()), on_cpu(average)
