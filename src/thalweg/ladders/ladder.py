"""Run the ladder: from the simplest model to the strongest on one data set, until time is up."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from time import monotonic

import torch
from torch import Tensor

from thalweg.classical.checks import check_count, check_penalty
from thalweg.data import Dataset
from thalweg.errors import DataError, MissingPackageError, TooLongError, UsageError
from thalweg.files import replace_file
from thalweg.ladders.advice import advice, best_rung, rung_to_stop_at
from thalweg.ladders.ladder_data import LadderData, LadderOptions
from thalweg.ladders.rung import RungMaker, RungResult
from thalweg.ladders.rungs import RUNGS
from thalweg.ladders.score_interval import score_interval
from thalweg.planning.checks import check_alone, check_edits, check_recipe
from thalweg.planning.make_plan import absolute_if_exists, best_device, read_dataset, recipe_for
from thalweg.planning.progress import Progress
from thalweg.recipes.recipe import Recipe
from thalweg.record import claim_run_folder
from thalweg.record.environment import environment
from thalweg.record.ladder import Kind, Ladder, Rung, save_ladder
from thalweg.record.run_folder import check_parent
from thalweg.registry import unknown_name
from thalweg.report.ladder_page import render_ladder
from thalweg.report.ladder_picture import ladder_svg
from thalweg.runs.run import InterruptedLadderError
from thalweg.tasks import TASKS

WEAK_SHARE = 0.2  # of the time left, for a rung before stronger ones


def run_ladder(
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
    """Run the rungs one by one; yield the ladder after each, the last time with its advice."""
    check_alone()
    _check_options(minutes, k=k, penalty=penalty)
    _check_rung_names(rungs)
    check_parent(Path(out))
    progress = progress or Progress()
    start_time = monotonic()
    recipe = Recipe().edited({**edits, "data.path": str(path), "seed": seed})
    check_edits(recipe, edits)
    dataset = read_dataset(recipe, progress)
    if TASKS[dataset.facts.task].answers not in ("classes", "values"):
        raise UsageError(
            "the ladder compares models of classes or of values",
            seen=f"task: {dataset.facts.task}",
            fix="thalweg train; where labels are combined, --task classification takes each "
            "combination as a class",
        )
    device = str(edits.get("device") or best_device())
    network_recipe = recipe_for(dataset.facts, edits).edited({**edits, "device": device})
    check_recipe(network_recipe, dataset.facts)
    makers, left_out = select_rungs(dataset, rungs)
    if k is not None:
        check_count(
            k, name="k", most=dataset.facts.counts["train"], of="the number of training samples"
        )
    folder = claim_run_folder(Path(out), f"{Path(str(path)).resolve().name or 'data'}-ladder")
    data = LadderData(
        dataset=dataset,
        path=absolute_if_exists(str(path)),
        folder=folder,
        options=LadderOptions(k=k, penalty=penalty, seed=seed, edits=edits),
        progress=progress,
        deadline=start_time + 60 * minutes,
        device=device,
    )
    ladder = Ladder(
        path=folder,
        source=data.path,
        task=dataset.facts.task,
        metric="accuracy" if data.is_classification else "r2",
        counts={split: n for split, n in dataset.facts.counts.items() if split != "test"},
        left_out=left_out,
        environment=environment() | {"threads": str(torch.get_num_threads())},
    )
    yield from _run_rungs(ladder, data, makers, start_time=start_time)


def select_rungs(dataset: Dataset, names: Sequence[str]) -> tuple[list[RungMaker], dict[str, str]]:
    """Return the rungs to run, in the order of the ladder, and the reasons to leave others out.

    Raises: UnknownNameError; UsageError for a rung that was named and does not fit the data.
    """
    _check_rung_names(names)
    for name in names:
        if reason := RUNGS[name].unfit_reason(dataset.facts):
            facts = f"{dataset.modality.noun}s, {dataset.facts.task}"
            raise UsageError(f"the rung {name} {reason}", seen=facts, fix="leave it out of --rungs")
    makers = [maker for name, maker in RUNGS.items() if not names or name in names]
    unfit = {maker.name: why for maker in makers if (why := maker.unfit_reason(dataset.facts))}
    return _most_promising_first([maker for maker in makers if maker.name not in unfit]), unfit


def _most_promising_first(makers: Sequence[RungMaker]) -> list[RungMaker]:
    """Baselines, then pretrained networks, which time must not run out for; then the others."""
    places: dict[Kind, int] = {"baseline": 0, "pretrained": 1}
    return sorted(makers, key=lambda maker: places.get(maker.kind, 2))


def _check_rung_names(names: Sequence[str]) -> None:
    for name in names:
        if name not in RUNGS:
            raise unknown_name("rung", name, RUNGS)


def _check_options(minutes: float, *, k: int | None, penalty: float | None) -> None:
    if not 0 < minutes < float("inf"):
        raise UsageError(
            "minutes must be positive and finite", seen=f"minutes = {minutes}", fix="minutes 1"
        )
    if k is not None:
        check_count(k, name="k", most=10**9, of="the number of neighbours")
    if penalty is not None:
        check_penalty(penalty)


def _run_rungs(
    ladder: Ladder, data: LadderData, makers: Sequence[RungMaker], *, start_time: float
) -> Iterator[Ladder]:
    _save(ladder)
    try:
        for number, maker in enumerate(makers):
            _show_rung(data.progress, maker, place=(number, len(makers)))
            data.limit_time(_time_share(maker, makers[number + 1 :]))
            ladder = _add_rung(ladder, maker, data, start_time=start_time)
            _save(ladder)
            yield ladder
    except KeyboardInterrupt as interrupt:
        _save(replace(ladder, state="interrupted"))
        raise InterruptedLadderError(data.folder) from interrupt
    ladder = _with_stop(replace(ladder, state="finished"))
    _save(ladder)
    data.progress.phase = "done"
    yield ladder


def _time_share(maker: RungMaker, later: Sequence[RungMaker]) -> float:
    """The share of the time left that a rung may take: all for the last, little before stronger."""
    if not later:
        return 1.0
    must_leave = not maker.is_strong and any(other.is_strong for other in later)
    return min(maker.share, WEAK_SHARE) if must_leave else maker.share


def _add_rung(ladder: Ladder, maker: RungMaker, data: LadderData, *, start_time: float) -> Ladder:
    """Run one more rung, or note the reason to leave it out."""
    rung_start = monotonic()
    try:
        result = maker.run(data)
    except TooLongError as error:
        return _leave_out(ladder, maker, error.problem)
    except (MissingPackageError, DataError) as error:
        return _leave_out(ladder, maker, " ".join(filter(None, (error.problem, error.seen))))
    rung = _scored_rung(maker, result, data, seconds=monotonic() - rung_start)
    ladder = replace(ladder, rungs=(*ladder.rungs, rung), seconds=monotonic() - start_time)
    best = best_rung(ladder.rungs)
    return _with_stop(replace(ladder, best=best.name if best else "", advice=advice(ladder)))


def _with_stop(ladder: Ladder) -> Ladder:
    """The ladder with the rung to stop at; without one while a strong rung is untried."""
    stop = None if ladder.untried else rung_to_stop_at(ladder)
    return replace(ladder, stop_at=stop.name if stop else "")


def _leave_out(ladder: Ladder, maker: RungMaker, reason: str) -> Ladder:
    """Note a rung for which time or a package is missing."""
    untried = (*ladder.untried, maker.title) if maker.is_strong else ladder.untried
    left_out = {**ladder.left_out, maker.name: reason}
    return _with_stop(replace(ladder, left_out=left_out, untried=untried))


def _scored_rung(maker: RungMaker, result: RungResult, data: LadderData, *, seconds: float) -> Rung:
    """The rung's score on the validation split, its interval, and the error of every sample."""
    targets = data.targets("val").cpu()
    scored = torch.ones(len(targets), dtype=torch.bool)
    if result.scored is not None:
        scored = result.scored
    predictions = result.predictions.cpu()
    errors = _errors(predictions, targets, is_classification=data.is_classification)
    low, high = score_interval(
        errors[scored], targets[scored], is_classification=data.is_classification
    )
    return Rung(
        name=maker.name,
        title=maker.title,
        kind=maker.kind,
        score=data.score(predictions[scored], targets[scored]),
        low=low,
        high=high,
        samples=int(scored.sum()),
        seconds=seconds,
        train_score=result.train_score,
        train_loss=result.train_loss,
        parameters=result.parameters,
        chosen=result.chosen,
        run=result.run,
        errors=tuple(torch.where(scored, errors, nan).tolist()),
    )


def _errors(predictions: Tensor, targets: Tensor, *, is_classification: bool) -> Tensor:
    """float64 a sample: 1 for a wrong class, or the squared error."""
    if is_classification:
        return (predictions != targets).double()
    return (predictions.double() - targets).square()


def _show_rung(progress: Progress, maker: RungMaker, *, place: tuple[int, int]) -> None:
    progress.phase = maker.title
    progress.step, progress.samples, progress.metric = 0, place, ("", nan)


def _save(ladder: Ladder) -> None:
    """Write the table, the picture and the page of the rungs so far."""
    save_ladder(ladder)
    if ladder.rungs:
        replace_file(ladder.path / "ladder.svg", ladder_svg(ladder))
        replace_file(ladder.path / "ladder.html", render_ladder(ladder))
