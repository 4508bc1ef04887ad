"""`thalweg train PATH`: settings in, a run out."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from thalweg.cli.compare_scratch import compared
from thalweg.cli.folds import Splits, cross_validated
from thalweg.cli.output import print_json, print_run
from thalweg.cli.progress import painted
from thalweg.cli.recipe_options import RECIPE, recipe_edits, takes_recipe_keys
from thalweg.cli.settings import Settings, gather, with_origins
from thalweg.data.images.survey_process import scouting
from thalweg.errors import UsageError, printable
from thalweg.loading import loading
from thalweg.recipes.recipe import Recipe, recorded_recipe

if TYPE_CHECKING:
    from thalweg.api import Progress, Run
    from thalweg.planning.estimate import Estimate
    from thalweg.planning.plan import Plan


@takes_recipe_keys
def train(
    path: str | None = None,
    /,
    *,
    out: Path = Path("runs"),
    resume: Path | None = None,
    folds: int | None = None,
    repeats: int | None = None,
    final: bool = False,
    compare_scratch: bool = False,
    dry_run: bool = False,
    json: bool = False,
    config: Annotated[Path | None, Parameter(group=RECIPE)] = None,
    print_config: Annotated[bool, Parameter(group=RECIPE)] = False,
    **recipe: object,
) -> int:
    """Train a model on a folder of images, a table or arrays; report what was learnt.

    Parameters
    ----------
    path: str
        A folder with a folder of images per class, a CSV file, a .npz file, or "digits".
    out: Path
        Folder that the run's folder is made in.
    resume: Path
        Go on with this run, from its newest checkpoint, to the same end.
    folds: int
        Train once for each of so many stratified folds, and report mean ± std.
    repeats: int
        Do so as often, with other folds; without --folds: so many random splits.
    final: bool
        At the end, open the test split, which is hidden until then (see `thalweg final`).
    compare_scratch: bool
        After a transfer, also train from scratch on the same data and split; show both.
    dry_run: bool
        Read the data and say what would be done; train nothing, write no run.
    json: bool
        Print JSON instead of text.
    config: Path
        A TOML file with any of the keys below.
    print_config: bool
        Print every value and where it comes from, as a file for --config.
    """
    options = recipe_edits(recipe) | ({"data.path": path} if path else {})
    settings = gather(options, os.environ, config)
    if print_config or dry_run:
        return _show_plan(settings, only_config=print_config, json=json)
    splits = Splits(folds, repeats, resume)
    if splits.asked_for:
        if final:
            raise UsageError("--final is for one run, not for folds", fix="thalweg final RUN")
        return cross_validated(splits, settings, out, json=json)
    if resume is not None:
        return _resume(resume, settings, final=final, json=json)
    if compare_scratch:
        return compared(settings, out, json=json)
    return _train(settings, out, final=final, json=json)


def _train(settings: Settings, out: Path, *, final: bool, json: bool) -> int:
    def action(progress: "Progress") -> "Run":
        run = start_run("", settings.edits, out=out, progress=progress)
        return _tested(run, progress) if final else run

    wanted = Recipe().edited(settings.edits).data
    with scouting(wanted.path, target=wanted.target, size=wanted.image_size):
        with loading(for_good=True):  # PyTorch, and meanwhile the files are looked at
            from thalweg.runs.start import train as start_run
        return _watched(action, json=json)


def _resume(folder: Path, settings: Settings, *, final: bool, json: bool) -> int:
    with loading(for_good=True):
        from thalweg.runs.start import resume

    _refuse_changes(folder, settings)
    devices = settings.edits.get("devices")

    def action(progress: "Progress") -> "Run":
        run = resume(
            folder, devices=devices if isinstance(devices, int) else None, progress=progress
        )
        return _tested(run, progress) if final else run

    return _watched(action, json=json)


def _tested(run: "Run", progress: "Progress") -> "Run":
    """The run with the test split opened."""
    from thalweg import api

    if api.is_silent():
        return run
    api.final(run.path, progress=progress)
    return api.Run(run.path)  # read anew


def _refuse_changes(run: Path, settings: Settings) -> None:
    """A resumed run ends as the run that was never stopped: it keeps its recipe.

    But for the number of devices, on which its results do not depend.
    """
    recorded = recorded_recipe(run).flat()
    wanted = Recipe().edited(settings.edits).flat()
    changed = [key for key in settings.edits if wanted[key] != recorded[key] and key != "devices"]
    if changed:
        seen = [f"{key} = {wanted[key]} ({settings.origins[key]})" for key in changed]
        raise UsageError(
            f"{run} cannot be resumed with another recipe",
            seen=", ".join(seen),
            fix=f"thalweg train --resume {run}, or a new run with the new values",
        )


def _watched(action: "Callable[[Progress], Run]", *, json: bool) -> int:
    """Carry it out with a progress line on stderr, then print the run on stdout."""
    from thalweg import api

    progress = api.Progress()
    if api.is_silent():
        return _unseen(action, progress)
    try:
        with painted(progress, sys.stderr):
            run = action(progress)
    except api.InterruptedRunError as stop:
        print(printable(str(stop)), file=sys.stderr)
        return stop.exit_code
    print_run(run.reader, run.diagnosis, json=json)
    if not json:
        print(f"\nreport   {run.path / 'report.html'}\npredict  thalweg predict {run.path} FILE…")
    return 0


def _unseen(action: "Callable[[Progress], Run]", progress: "Progress") -> int:
    """Carry it out as a rank that another one speaks for."""
    from thalweg import api

    try:
        action(progress)
    except api.InterruptedRunError as stop:
        return stop.exit_code
    return 0


def _show_plan(settings: Settings, *, only_config: bool, json: bool) -> int:
    from thalweg import api

    progress = api.Progress()
    with painted(progress, sys.stderr):
        plan = api.plan(edits=settings.edits, progress=progress)
    expected = None if only_config else api.estimate(plan)
    if json:
        print_json(
            recipe=plan.recipe.flat(),
            origins=settings.origins,
            samples=plan.dataset.facts.counts,
            steps=plan.steps,
            steps_per_epoch=plan.steps_per_epoch,
            **({} if expected is None else {"estimate": _as_numbers(expected)}),
        )
        return 0
    if expected is not None:
        facts = {**_facts(plan), **_in_words(expected)}
        print("\n".join(f"# {name}: {value}" for name, value in facts.items()) + "\n")
    print(with_origins(plan.recipe, settings.origins))
    return 0


def _as_numbers(expected: "Estimate") -> Mapping[str, float]:
    names = ("weights", "gradients", "optimizer", "activations", "memory")
    sizes = {f"{name}_bytes": getattr(expected, name) for name in names}
    return {"seconds": expected.seconds, "step_seconds": expected.step_seconds, **sizes}


def _in_words(expected: "Estimate") -> Mapping[str, object]:
    """Both are estimates, and are called so."""
    mib = {
        name: f"{getattr(expected, name) / 2**20:,.1f}"
        for name in ("memory", "weights", "gradients", "optimizer", "activations")
    }
    parts = ", ".join(f"{name} {size}" for name, size in mib.items() if name != "memory")
    return {
        "estimated time": f"{expected.seconds:,.0f} s, at {1000 * expected.step_seconds:,.1f} ms "
        "a step, as the first few took here",
        "estimated memory": f"{mib['memory']} MiB beside the data and the libraries: {parts}",
    }


def _facts(plan: "Plan") -> Mapping[str, object]:
    facts, counts = plan.dataset.facts, plan.dataset.facts.counts
    return {
        "task": facts.task,
        "classes": len(plan.dataset.class_names),
        "samples": ", ".join(f"{number} {split}" for split, number in counts.items() if number),
        "left out": len(plan.dataset.quarantined),
        "input": " × ".join(map(str, facts.input_shape)),
        "steps": f"{plan.steps}, {plan.steps_per_epoch} an epoch",
    }
