"""How a run begins: from data and wishes, or where it was stopped; alone or as one of many."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any

from thalweg.data.images.background_decoding import DamagedLateError
from thalweg.distributed.ranks import is_one_of_many, process_group
from thalweg.errors import RunError
from thalweg.planning.checks import check_devices
from thalweg.planning.make_plan import make_plan, plan_of
from thalweg.planning.numerics import with_measured_numerics
from thalweg.planning.plan import Plan
from thalweg.planning.progress import Progress
from thalweg.recipes.recipe import recorded_recipe
from thalweg.record import claim_run_folder
from thalweg.runs.broadcast_plan import broadcast_plan
from thalweg.runs.fit import run_plan
from thalweg.runs.recorder import recorded_facts
from thalweg.runs.run import Run, replace_text
from thalweg.training.allocator import keep_freed_memory


def train(
    path: str | Path,
    edits: Mapping[str, object],
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> Run:
    """Train on the data at `path` and return the finished run, a new folder in `out`."""
    progress = progress or Progress()
    keep_freed_memory()
    if is_one_of_many():
        return _as_rank(lambda: _claimed(path, edits, out=out, progress=progress), progress)
    try:
        return _train(path, edits, out=out, progress=progress, overlap=True)
    except DamagedLateError as late:
        progress.messages.append(f"begun again, without a file that is damaged: {late.seen}")
        late.decoding.join()
        return _train(path, edits, out=out, progress=progress, overlap=False)


def _train(
    path: str | Path,
    edits: Mapping[str, object],
    *,
    out: str | Path,
    progress: Progress,
    overlap: bool,
) -> Run:
    """With `overlap`, DamagedLateError may be raised, and no run is left."""
    ready, folder = _claimed(path, edits, out=out, progress=progress, overlap=overlap)
    try:
        with _left_clean(folder):
            return run_plan(ready, folder, progress)
    finally:
        if ready.dataset.decoding is not None:
            ready.dataset.decoding.stop()


def _claimed(
    path: str | Path,
    edits: Mapping[str, object],
    *,
    out: str | Path,
    progress: Progress,
    overlap: bool = False,
) -> tuple[Plan, Path]:
    """The plan, and a new folder in `out` for its run, with the recipe in it."""
    read = make_plan(path, edits, progress=progress, overlap=overlap)
    try:
        ready = with_measured_numerics(read, progress)
        folder = claim_run_folder(Path(out), Path(ready.recipe.data.path).resolve().name or "run")
        replace_text(folder / "recipe.toml", ready.recipe.to_toml())
    except BaseException:
        if read.dataset.decoding is not None:
            read.dataset.decoding.stop()
        raise
    return ready, folder


@contextmanager
def _left_clean(folder: Path) -> Iterator[None]:
    """No trace of a run that is to begin again."""
    try:
        yield
    except DamagedLateError:
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
    return run_plan(ready, folder, progress)


def _reopened(folder: Path, progress: Progress) -> tuple[Plan | None, Path]:
    """What is left to be done of a run: nothing where it has ended."""
    meta = recorded_facts(folder)
    is_over = meta.get("state") == "finished"
    return (None if is_over else recorded_plan(folder, meta, progress)), folder


def _as_rank(prepare: Callable[[], tuple[Plan | None, Path]], progress: Progress) -> Run:
    """The run that this process trains as one of those that torchrun started.

    What `prepare` returns on the first rank, all of them carry out.
    """
    with process_group() as ranks:
        plan, folder = broadcast_plan(prepare() if ranks.is_first else None, ranks, progress)
        return Run(folder) if plan is None else run_plan(plan, folder, progress, ranks=ranks)


def recorded_plan(folder: Path, meta: Mapping[str, Any], progress: Progress) -> Plan:
    """The plan that the run was made by, its data read again. RunError where they have changed."""
    plan = plan_of(recorded_recipe(folder), progress)
    fingerprint = plan.dataset.fingerprint
    recorded = meta.get("fingerprint", fingerprint)
    if recorded != fingerprint:
        raise RunError(
            f"the data of {folder} has changed since the run began",
            seen=f"{plan.recipe.data.path}: fingerprint {fingerprint[:12]}…, "
            f"recorded {recorded[:12]}…",
            fix="put the data back as it was, or start a new run",
        )
    return plan
