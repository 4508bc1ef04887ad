"""`thalweg train PATH`: train a model, or resume a run, and print the report."""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from thalweg.cli.compare_scratch import compare_with_scratch
from thalweg.cli.folds import Splits, cross_validate
from thalweg.cli.output import print_json, print_run
from thalweg.cli.recipe_options import RECIPE, edits_with_path, takes_recipe_keys
from thalweg.cli.settings import Settings, annotated_toml, gather_settings
from thalweg.data.images.survey_process import survey_in_background
from thalweg.errors import UsageError, printable, shell_word
from thalweg.loading import pause_collector
from thalweg.recipes.recipe import Recipe, check_ranges, recorded_recipe
from thalweg.runs.progress_line import show_progress

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
    """Train a model on a folder of images, a table, arrays or a text, and report on it.

    Parameters
    ----------
    path: str
        A folder with a folder of images per class, a CSV, .npz or .txt file, or "digits".
    out: Path
        Folder in which the run's own folder is created.
    resume: Path
        Resume this run from its newest checkpoint; it ends as if it had never stopped.
    folds: int
        Cross-validate: train once for each of this many stratified folds; report mean ± std.
    repeats: int
        Repeat the cross-validation with other folds; without --folds, draw random splits.
    final: bool
        At the end, score the model on the test split (see `thalweg final`).
    compare_scratch: bool
        Train by transfer and from scratch, on the same data and split; show both scores.
    dry_run: bool
        Read the data, show the recipe and estimate time and memory; train nothing.
    json: bool
        Print JSON instead of text.
    config: Path
        A TOML file with recipe keys, as below.
    print_config: bool
        Print every value and its origin, as a file for --config.
    """
    options = edits_with_path(recipe, path)
    settings = gather_settings(options, os.environ, config)
    if print_config or dry_run:
        return _print_plan(settings, only_config=print_config, json=json)
    splits = Splits(folds, repeats, resume)
    if splits.are_several:
        if final:
            raise UsageError("--final is for one run, not for folds", fix="thalweg final RUN")
        return cross_validate(splits, settings, out, json=json)
    if resume is not None:
        return _resume(resume, settings, final=final, json=json)
    if compare_scratch:
        return compare_with_scratch(settings, out, json=json)
    return _train(settings, out, final=final, json=json)


def _train(settings: Settings, out: Path, *, final: bool, json: bool) -> int:
    def action(progress: "Progress") -> "Run":
        run = start_run("", settings.edits, out=out, progress=progress)
        return _score_on_test(run, progress) if final else run

    recipe = Recipe().edited(settings.edits)
    check_ranges(recipe, settings.edits)  # before another process begins to read files
    data = recipe.data
    with survey_in_background(
        data.path, target=data.target, group=data.group, size=data.image_size
    ):
        with pause_collector(freeze=True):  # PyTorch, while another process surveys the files
            from thalweg.runs.start import train as start_run
        return _run_with_progress(action, json=json)


def _resume(folder: Path, settings: Settings, *, final: bool, json: bool) -> int:
    with pause_collector(freeze=True):
        from thalweg.runs.start import resume

    _check_same_recipe(folder, settings)
    devices = settings.edits.get("devices")

    num_devices = devices if isinstance(devices, int) else None

    def action(progress: "Progress") -> "Run":
        run = resume(folder, devices=num_devices, progress=progress)
        return _score_on_test(run, progress) if final else run

    return _run_with_progress(action, json=json)


def _score_on_test(run: "Run", progress: "Progress") -> "Run":
    """Score the run on the test split, and return it."""
    from thalweg import api

    if not api.is_silent():
        api.final(run.path, progress=progress)
    return run


def _check_same_recipe(run: Path, settings: Settings) -> None:
    """Raise UsageError for other values than the run was started with.

    The number of devices may change, since the results do not depend on it.
    """
    recorded = recorded_recipe(run).flat()
    values = Recipe().edited(settings.edits).flat()
    changed = [key for key in settings.edits if values[key] != recorded[key] and key != "devices"]
    if changed:
        seen = [f"{key} = {values[key]} ({settings.origins[key]})" for key in changed]
        raise UsageError(
            f"{run} cannot be resumed with another recipe",
            seen=", ".join(seen),
            fix=f"thalweg train --resume {shell_word(run)}, or a new run with the new values",
        )


def _run_with_progress(action: "Callable[[Progress], Run]", *, json: bool) -> int:
    """Show the progress on stderr, then print the run on stdout; return the exit code."""
    from thalweg import api

    progress, is_silent = api.Progress(), api.is_silent()  # the first rank prints for the others
    try:
        with nullcontext() if is_silent else show_progress(progress, sys.stderr):
            run = action(progress)
    except api.InterruptedRunError as stop:
        if not is_silent:
            print(printable(str(stop)), file=sys.stderr)
        return stop.exit_code
    if is_silent:
        return 0
    print_run(run.reader, run.diagnosis, json=json)
    if not json:
        folder = shell_word(run.path)
        use = f"predict  thalweg predict {folder} FILE…"
        if run.reader.meta.get("answers") == "tokens":
            use = f'generate thalweg generate {folder} --prompt "…"'
        if run.reader.meta.get("answers") == "sequences":
            use = f'predict  thalweg predict {folder} "…"'
        if run.reader.meta.get("answers") == "steps":
            use = f"forecast thalweg forecast {folder} --csv"
        report = run.path / "report.html"
        print(f"\nreport   {printable(str(report))}\n{use}" if report.is_file() else f"\n{use}")
    return 0


def _print_plan(settings: Settings, *, only_config: bool, json: bool) -> int:
    from thalweg import api

    progress = api.Progress()
    with show_progress(progress, sys.stderr):
        plan = api.plan(edits=settings.edits, progress=progress)
    expected = None if only_config else api.estimate(plan)
    if json:
        print_json(
            recipe=plan.recipe.flat(),
            origins=settings.origins,
            samples=plan.dataset.facts.counts,
            steps=plan.steps,
            steps_per_epoch=plan.steps_per_epoch,
            **({} if expected is None else {"estimate": _estimate_numbers(expected)}),
        )
        return 0
    if expected is not None:
        facts = {**_plan_facts(plan), **_estimate_facts(expected)}
        print("\n".join(f"# {name}: {value}" for name, value in facts.items()) + "\n")
    print(annotated_toml(plan.recipe, settings.origins))
    return 0


def _estimate_numbers(expected: "Estimate") -> Mapping[str, float]:
    names = ("weights", "gradients", "optimizer", "activations", "memory")
    sizes = {f"{name}_bytes": getattr(expected, name) for name in names}
    return {"seconds": expected.seconds, "step_seconds": expected.step_seconds, **sizes}


def _estimate_facts(expected: "Estimate") -> Mapping[str, object]:
    mib = {
        name: f"{getattr(expected, name) / 2**20:,.1f}"
        for name in ("memory", "weights", "gradients", "optimizer", "activations")
    }
    parts = ", ".join(f"{name} {size}" for name, size in mib.items() if name != "memory")
    return {
        "estimated time": f"{expected.seconds:,.0f} s, at {1000 * expected.step_seconds:,.1f} ms "
        "a step, timed here",
        "estimated memory": f"{mib['memory']} MiB beside the data and the libraries: {parts}",
    }


def _plan_facts(plan: "Plan") -> Mapping[str, object]:
    facts, counts = plan.dataset.facts, plan.dataset.facts.counts
    classes, baselines = len(plan.dataset.class_names), plan.baselines
    losses = ", ".join(f"{name} {loss:.3f}" for name, loss in baselines.items())
    return {
        "task": facts.task,
        **({"loss of simple models": f"{losses} nat a token"} if losses else {"classes": classes}),
        "samples": ", ".join(f"{number} {split}" for split, number in counts.items() if number),
        "left out": len(plan.dataset.quarantined),
        "input": plan.dataset.modality.size(facts) or " × ".join(map(str, facts.input_shape)),
        "steps": f"{plan.steps}, {plan.steps_per_epoch} an epoch",
    }
