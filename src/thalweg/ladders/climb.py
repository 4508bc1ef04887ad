"""The ladder: from the simplest model to the strongest on one data set, as far as the time goes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from time import monotonic

import torch
from torch import Tensor

from thalweg.classical.checks import check_count, check_penalty
from thalweg.data import Dataset
from thalweg.errors import DataError, UsageError
from thalweg.ladders.advice import advice, best_of, worth_stopping_at
from thalweg.ladders.interval import interval
from thalweg.ladders.rung import MissingError, RungMaker, TooLongError
from thalweg.ladders.rungs import RUNGS
from thalweg.ladders.samples import Climbed, Ground, Wishes
from thalweg.planning.checks import check_alone, check_recipe
from thalweg.planning.plan import best_device, from_root, read_dataset
from thalweg.planning.progress import Progress
from thalweg.recipes.choice import recipe_for
from thalweg.recipes.recipe import Recipe
from thalweg.record import claim_run_folder
from thalweg.record.environment import environment
from thalweg.record.ladder import Ladder, Rung, save_ladder
from thalweg.registry import unknown_name
from thalweg.report.ladder_page import render_ladder
from thalweg.report.ladder_picture import ladder_svg
from thalweg.runs.run import InterruptedLadderError, replace_text


def ladder_steps(
    path: str | Path,
    edits: Mapping[str, object],
    *,
    minutes: float,
    rungs: Sequence[str] = (),
    k: int | None = None,
    penalty: float | None = None,
    seed: int = 0,
    out: str | Path,
    progress: Progress | None = None,
) -> Iterator[Ladder]:
    """Yield the ladder after each rung, the last time with its advice."""
    check_alone()
    _check(minutes, k=k, penalty=penalty)
    progress = progress or Progress()
    begun = monotonic()
    recipe = Recipe().edited({**edits, "data.path": str(path), "seed": seed})
    dataset = read_dataset(recipe.flat(), progress)
    device = str(edits.get("device") or best_device())
    wanted = recipe_for(dataset.facts, edits).edited({**edits, "device": device})
    check_recipe(wanted, dataset.facts)
    makers, left_out = chosen_rungs(dataset, rungs)
    if k is not None:
        check_count(
            k, name="k", most=dataset.facts.counts["train"], of="the number of training samples"
        )
    folder = claim_run_folder(Path(out), f"{Path(str(path)).resolve().name or 'data'}-ladder")
    ground = Ground(
        dataset=dataset,
        path=from_root(str(path)),
        folder=folder,
        wishes=Wishes(k=k, penalty=penalty, seed=seed, options=edits),
        progress=progress,
        deadline=begun + 60 * minutes,
        device=device,
    )
    start = Ladder(
        path=folder,
        source=ground.path,
        task=dataset.facts.task,
        metric="accuracy" if ground.classifies else "r2",
        counts={split: n for split, n in dataset.facts.counts.items() if split != "test"},
        left_out=left_out,
        environment=environment() | {"threads": str(torch.get_num_threads())},
    )
    yield from _climbed(start, ground, makers, begun=begun)


def chosen_rungs(dataset: Dataset, names: Sequence[str]) -> tuple[list[RungMaker], dict[str, str]]:
    """The rungs to climb, in the order of the ladder, and why the others are not.

    Raises: UnknownNameError; UsageError for a rung that was named and does not fit the data.
    """
    for name in names:
        if name not in RUNGS:
            raise unknown_name("rung", name, RUNGS)
        if why := RUNGS[name].unfit(dataset.facts):
            about = f"{dataset.facts.kind}s, {dataset.facts.task}"
            raise UsageError(f"the rung {name} {why}", seen=about, fix="leave it out of --rungs")
    wanted = [maker for name, maker in RUNGS.items() if not names or name in names]
    unfit = {maker.name: why for maker in wanted if (why := maker.unfit(dataset.facts))}
    return [maker for maker in wanted if maker.name not in unfit], unfit


def _check(minutes: float, *, k: int | None, penalty: float | None) -> None:
    if not 0 < minutes < float("inf"):
        raise UsageError("minutes is a time to climb for", seen=f"{minutes}", fix="minutes 1")
    if k is not None:
        check_count(k, name="k", most=10**9, of="the number of neighbours")
    if penalty is not None:
        check_penalty(penalty)


def _climbed(
    start: Ladder, ground: Ground, makers: Sequence[RungMaker], *, begun: float
) -> Iterator[Ladder]:
    found = start
    _keep(found)
    try:
        for number, maker in enumerate(makers):
            _show(ground.progress, maker, place=(number, len(makers)))
            ground.allow(maker.share if number + 1 < len(makers) else 1.0)
            found = _with(found, maker, ground, begun=begun)
            _keep(found)
            yield found
    except KeyboardInterrupt as stop:
        _keep(replace(found, state="interrupted"))
        raise InterruptedLadderError(ground.folder) from stop
    found = replace(found, state="finished")
    _keep(found)
    ground.progress.phase = "done"
    yield found


def _with(found: Ladder, maker: RungMaker, ground: Ground, *, begun: float) -> Ladder:
    """The climb with one rung more, or with the reason why not."""
    since = monotonic()
    try:
        climbed = maker.climb(ground)
    except TooLongError as late:
        return _without(found, maker, late.problem)
    except (MissingError, DataError) as unfit:
        return _without(found, maker, " ".join(filter(None, (unfit.problem, unfit.seen))))
    rung = _judged(maker, climbed, ground, seconds=monotonic() - since)
    found = replace(found, rungs=(*found.rungs, rung), seconds=monotonic() - begun)
    best, stop = best_of(found.rungs), worth_stopping_at(found)
    return replace(
        found,
        best=best.name if best else "",
        stop_at=stop.name if stop else "",
        advice=advice(found),
    )


def _without(found: Ladder, maker: RungMaker, why: str) -> Ladder:
    return replace(found, left_out={**found.left_out, maker.name: why})


def _judged(maker: RungMaker, climbed: Climbed, ground: Ground, *, seconds: float) -> Rung:
    """The rung's score on the validation split, its interval, and the error of every sample."""
    targets = ground.targets("val").cpu()
    judged = torch.ones(len(targets), dtype=torch.bool)
    if climbed.judged is not None:
        judged = climbed.judged
    predicted = climbed.predicted.cpu()
    errors = _errors(predicted, targets, classifies=ground.classifies)
    low, high = interval(errors[judged], targets[judged], classifies=ground.classifies)
    return Rung(
        name=maker.name,
        title=maker.title,
        kind=maker.kind,
        score=ground.score(predicted[judged], targets[judged]),
        low=low,
        high=high,
        samples=int(judged.sum()),
        seconds=seconds,
        train_score=climbed.train_score,
        train_loss=climbed.train_loss,
        parameters=climbed.parameters,
        chosen=climbed.chosen,
        run=climbed.run,
        errors=tuple(torch.where(judged, errors, nan).tolist()),
    )


def _errors(predicted: Tensor, targets: Tensor, *, classifies: bool) -> Tensor:
    """float64 a sample: 1 for a wrong class, or the squared error."""
    if classifies:
        return (predicted != targets).double()
    return (predicted.double() - targets).square()


def _show(progress: Progress, maker: RungMaker, *, place: tuple[int, int]) -> None:
    progress.phase = maker.title
    progress.step, progress.samples, progress.metric = 0, place, ("", nan)


def _keep(found: Ladder) -> None:
    """Table, picture and page, as far as the climb has come."""
    save_ladder(found)
    if found.rungs:
        replace_text(found.path / "ladder.svg", ladder_svg(found))
        replace_text(found.path / "ladder.html", render_ladder(found))
