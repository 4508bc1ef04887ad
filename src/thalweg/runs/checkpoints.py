"""Save a run's checkpoints; on a full disk, make room, warn, and go on training."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thalweg.errors import TrainingError
from thalweg.runs.session import Session
from thalweg.training.checkpoint import (
    Snapshot,
    UnwritableCheckpointError,
    check_weights,
    latest_checkpoint,
    prune,
    take_snapshot,
    write_checkpoint,
)


@dataclass(slots=True)
class Checkpoints:
    """The checkpoints of a run: the newest two, and the one of the best weights.

    Best weights that are not on the disk are held in memory until a later checkpoint is written.
    """

    folder: Path
    is_failing: bool = False  # the last save failed
    _best: Snapshot | None = field(default=None, repr=False)  # not on the disk

    def save(self, session: Session, *, done: int, extra: Mapping[str, Any], best: int) -> str:
        """Save the session after `done` updates; `best` is the step of the best weights, −1: none.

        Returns the reason where the disk takes no checkpoint, else "". The first must succeed.
        Raises: TrainingError where there is none yet, or for weights that are not finite.
        """
        snapshot = _take_snapshot(session, done, extra)
        held = [] if self._best is None or self._best.step != best else [self._best]
        problem = self._try([*held, snapshot])
        if problem and done == 0:
            raise problem
        if problem:
            self.make_room(best)
            problem = self._try([*held, snapshot])
        self.is_failing = problem is not None
        if problem:
            self._best = snapshot if best == done else next(iter(held), None)
            return problem.seen
        self._best = None
        prune(self.folder, keep=2, best=best if best >= 0 else None)
        return ""

    def hold_best(
        self, session: Session, *, done: int, extra: Mapping[str, Any], best: int
    ) -> None:
        """Hold the session in memory if its weights, after `done` updates, are the best.

        Raises: NonFiniteWeightsError.
        """
        if best == done:
            self._best = _take_snapshot(session, done, extra)
        else:
            check_weights(session.model, step=done)

    def make_room(self, best: int) -> None:
        """Delete all checkpoints but the newest and the one of the best weights."""
        with suppress(TrainingError):  # the write that follows says what is wrong
            prune(self.folder, keep=1, best=best if best >= 0 else None)

    def restore_best(self, session: Session, step: int) -> bool:
        """Restore the best weights, of that step, from disk or memory; False: they are lost."""
        is_held = self._best is not None and self._best.step == step
        saved = self._best if is_held else latest_checkpoint(self.folder, step=step)
        if saved is not None:
            saved.restore(session.model, session.optimizer, session.average)
        return saved is not None

    def _try(self, snapshots: list[Snapshot]) -> UnwritableCheckpointError | None:
        try:
            for snapshot in snapshots:
                write_checkpoint(self.folder, snapshot)
        except UnwritableCheckpointError as error:
            return error
        return None


def _take_snapshot(session: Session, done: int, extra: Mapping[str, Any]) -> Snapshot:
    return take_snapshot(session.model, session.optimizer, session.average, step=done, extra=extra)
