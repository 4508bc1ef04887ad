"""Cross-validation: one run for each split of the data, and mean ± std of their scores."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from thalweg.classical import Score
from thalweg.errors import RunError, UsageError
from thalweg.files import read_json_object, replace_file
from thalweg.planning.checks import check_alone
from thalweg.planning.make_plan import make_plan, plan_of
from thalweg.planning.numerics import with_measured_numerics
from thalweg.planning.progress import Progress
from thalweg.recipes.recipe import Recipe, recorded_recipe
from thalweg.record import claim_run_folder
from thalweg.record.run_folder import CROSS_VALIDATION, check_parent
from thalweg.record.schema import DATABASE, json_safe
from thalweg.runs.fit import run_plan
from thalweg.runs.run import InterruptedRunError, Run
from thalweg.runs.start import resume


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidation:
    """The runs of a cross-validation, one a split, in a folder of their own."""

    path: Path
    runs: tuple[Run, ...]

    @property
    def metric(self) -> str:
        """Name of the headline metric, such as "val_accuracy"."""
        return str(self.runs[0].reader.meta["headline_metric"])

    @property
    def scores(self) -> Mapping[str, Score]:
        """Every final metric: its value for each run, mean and sample standard deviation.

        The std is over splits that share training samples: good for comparing recipes, too small
        as the error of the mean (Bengio & Grandvalet 2004).
        """
        names = self.runs[0].metrics
        return {name: Score(tuple(run.metrics[name] for run in self.runs)) for name in names}

    @property
    def score(self) -> Score:
        """The score of the headline metric."""
        return self.scores[self.metric]

    @property
    def one_split(self) -> bool:
        """True if the data bring a split, so that only the seed differs from run to run."""
        return len({run.reader.meta["fingerprint"] for run in self.runs}) == 1


def cross_validate(
    path: str | Path,
    edits: Mapping[str, object],
    *,
    folds: int,
    repeats: int,
    out: str | Path,
    progress: Progress | None = None,
) -> CrossValidation:
    """Train once for each fold, `repeats` times with other folds and weights."""
    if folds < 0 or repeats < 1 or (folds == 0 and repeats < 2):
        raise UsageError(
            "a cross-validation needs several splits",
            seen=f"folds {folds}, repeats {repeats}",
            fix="folds 5; or folds 0 and repeats 5 for random splits",
        )
    check_alone()
    check_parent(Path(out))
    progress = progress or Progress()
    changes = {**edits, "data.folds": folds, "data.fold": 1}
    plan = with_measured_numerics(make_plan(path, changes, progress=progress), progress)
    stem = Path(plan.recipe.data.path).resolve().name or "run"
    folder = claim_run_folder(Path(out), f"{stem}-folds")
    replace_file(folder / "recipe.toml", plan.recipe.to_toml())
    _write(folder, {"folds": folds, "repeats": repeats})
    return resume_cross_validation(folder, progress=progress)


def resume_cross_validation(
    folder: str | Path, *, progress: Progress | None = None
) -> CrossValidation:
    """Train the runs that are not finished; the finished ones stay as they are."""
    check_alone()
    folder, progress = Path(folder), progress or Progress()
    recipe, counts = recorded_recipe(folder), _read_counts(folder)
    runs: list[Run] = []
    for name, edits in _splits(recipe, **counts):
        try:
            runs.append(_finished_run(folder / name, recipe.edited(edits), progress))
        except InterruptedRunError as stop:
            raise InterruptedRunError(folder, stop.exit_code) from stop
        _write(folder, counts | _summary(CrossValidation(path=folder, runs=tuple(runs))))
    return CrossValidation(path=folder, runs=tuple(runs))


def _splits(
    recipe: Recipe, *, folds: int, repeats: int
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The name of each run, and its edits of the recipe."""
    for repeat in range(repeats):
        seed = {"seed": recipe.seed + repeat}
        prefix = f"repeat-{repeat + 1}" if repeats > 1 else ""
        if not folds:
            yield prefix, seed
        for fold in range(1, folds + 1):
            yield "-".join(filter(None, [prefix, f"fold-{fold}"])), seed | {"data.fold": fold}


def _finished_run(folder: Path, recipe: Recipe, progress: Progress) -> Run:
    """Train the run in that folder, or resume it, unless it is finished; return it."""
    progress.messages.append(f"{folder.name}:")
    if (folder / DATABASE).is_file():
        return resume(folder, progress=progress)
    folder.mkdir(exist_ok=True)
    replace_file(folder / "recipe.toml", recipe.to_toml())
    return run_plan(plan_of(recipe, progress), folder, progress)


def _summary(result: CrossValidation) -> dict[str, object]:
    return {
        "runs": [run.path.name for run in result.runs],
        "headline_metric": result.metric,
        "scores": {
            name: {"mean": score.mean, "std": score.std, "values": list(score.values)}
            for name, score in result.scores.items()
        },
    }


def _write(folder: Path, content: Mapping[str, object]) -> None:
    replace_file(
        folder / CROSS_VALIDATION, json.dumps(json_safe({"schema": 1, **content}), indent=2) + "\n"
    )


def _read_counts(folder: Path) -> dict[str, int]:
    path = folder / CROSS_VALIDATION
    try:
        content = read_json_object(path)
        return {"folds": int(content["folds"]), "repeats": int(content["repeats"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read", seen=repr(error)) from error
