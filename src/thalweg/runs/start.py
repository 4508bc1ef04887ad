"""Start a run from data and wishes, or resume one, also as a rank that torchrun started."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

from thalweg.data.images.background_decoding import DamagedLateError
from thalweg.distributed.ranks import is_one_of_many, process_group
from thalweg.errors import DataError, RunError
from thalweg.files import replace_file
from thalweg.inference.saved_model import load_model
from thalweg.paths import as_path, check_writable_run
from thalweg.planning.checks import check_devices
from thalweg.planning.make_plan import make_plan, plan_of
from thalweg.planning.numerics import with_measured_numerics
from thalweg.planning.plan import Plan
from thalweg.planning.progress import Progress
from thalweg.recipes.recipe import recorded_recipe
from thalweg.record import claim_run_folder
from thalweg.record.run_folder import check_parent
from thalweg.runs.broadcast_plan import broadcast_plan
from thalweg.runs.fit import run_as_rank, run_plan
from thalweg.runs.recipe_edits import recipe_edits
from thalweg.runs.recorder import recorded_facts
from thalweg.runs.run import REPORT, Run
from thalweg.training.allocator import keep_freed_memory
from thalweg.wording import some


def train(
    path: str | Path,
    edits: Mapping[str, object],
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> Run:
    """Train on the data at `path` and return the finished run, a new folder in `out`."""
    check_parent(Path(out))
    progress = progress or Progress()
    keep_freed_memory()
    prepare = partial(_prepare_run, path, edits, out=Path(out), progress=progress)
    if is_one_of_many():
        return _train_under_torchrun(prepare, progress)
    try:
        return _train(*prepare(overlap=True), progress)
    except DamagedLateError as error:
        progress.messages.append(f"training starts again without a damaged file: {error.seen}")
        error.decoding.join()
        return _train(*prepare(), progress)


def _prepare_run(
    path: str | Path,
    edits: Mapping[str, object],
    *,
    out: Path,
    progress: Progress,
    overlap: bool = False,
) -> tuple[Plan, Path]:
    """Make the plan, and a new folder in `out` with its recipe."""
    plan = make_plan(path, edits, progress=progress, overlap=overlap)
    try:
        plan = with_measured_numerics(plan, progress)
        folder = claim_run_folder(out, Path(plan.recipe.data.path).resolve().name or "run")
        replace_file(folder / "recipe.toml", plan.recipe.to_toml())
    except BaseException:
        _stop_decoding(plan)
        raise
    return plan, folder


def _train(plan: Plan, folder: Path, progress: Progress) -> Run:
    """Train the plan. DamagedLateError leaves no folder, since the training starts again."""
    try:
        return run_plan(plan, folder, progress)
    except DamagedLateError:
        rmtree(folder)
        raise
    finally:
        _stop_decoding(plan)


def _stop_decoding(plan: Plan) -> None:
    if plan.dataset.decoding is not None:
        plan.dataset.decoding.stop()


def resume(run: str | Path, *, devices: int | None = None, progress: Progress | None = None) -> Run:
    """Resume a stopped run from its newest whole checkpoint and train it to the same end.

    `devices` changes the number of ranks.
    """
    progress = progress or Progress()
    keep_freed_memory()
    folder = as_path(run, role="the run")
    if is_one_of_many():
        return _train_under_torchrun(lambda: (_unfinished_plan(folder, progress), folder), progress)
    plan = _unfinished_plan(folder, progress)
    if plan is None:
        return _finished(folder, progress)
    if devices is not None:
        plan = replace(plan, recipe=plan.recipe.edited({"devices": devices}))
        check_devices(plan.recipe, here=devices)
    return run_plan(plan, folder, progress)


def _finished(folder: Path, progress: Progress) -> Run:
    """A finished run; its report is written where a kill prevented that.

    Raises: RunError where its model is gone or damaged.
    """
    load_model(folder / "model")
    run = Run(folder)
    if not (folder / REPORT).is_file() and (note := run.report_or_note()):
        progress.messages.append(note)
    return run


def _train_under_torchrun(
    prepare: Callable[[], tuple[Plan | None, Path]], progress: Progress
) -> Run:
    """Train the plan that `prepare` returns on the first rank, as a rank of torchrun's group."""
    with process_group() as ranks:
        plan, folder = broadcast_plan(prepare() if ranks.is_first else None, ranks, progress)
        if plan is None:
            return Run(folder)
        return run_as_rank(plan, folder, progress, ranks=ranks)


def _unfinished_plan(folder: Path, progress: Progress) -> Plan | None:
    """The plan of a recorded run; None where the run is finished."""
    facts = recorded_facts(folder)
    if facts.get("state") == "finished":
        return None
    check_writable_run(folder)
    return recorded_plan(folder, facts, progress)


def recorded_plan(folder: Path, facts: Mapping[str, Any], progress: Progress) -> Plan:
    """The plan of a recorded run, its data read again. Raises: RunError where they have changed."""
    recipe = recorded_recipe(folder)
    try:
        plan = plan_of(recipe, progress)
    except DataError as error:
        if Path(recipe.data.path).exists():
            raise
        raise RunError(
            f"the data of {folder} are not where they were",
            seen=recipe.data.path,
            fix=f"put them back, or write their new place into {folder / 'recipe.toml'}: path = …",
        ) from error
    fingerprint = plan.dataset.fingerprint
    recorded = facts.get("fingerprint", fingerprint)
    if recorded != fingerprint:
        edits = recipe_edits(facts, plan.recipe)
        if edits := [edit for edit in edits if edit.startswith(("data.", "seed:", "task.name:"))]:
            raise RunError(
                f"the recipe of {folder} was edited so that its data are others",
                seen=some(edits),
                fix="put recipe.toml back as it was, or start a new run",
            )
        raise RunError(
            f"the data of {folder} has changed since the run began",
            seen=f"{plan.recipe.data.path}: fingerprint {fingerprint[:12]}…, "
            f"recorded {str(recorded)[:12]}…",
            fix="put the data back as it was, or start a new run",
        )
    return plan
