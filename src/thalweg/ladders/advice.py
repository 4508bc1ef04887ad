"""Advice from the scores of a ladder: what they tell of the data, and the rung to stop at.

Rungs are compared on the same validation samples, error by error: the interval of the mean
difference is much narrower than the two scores' own (the paired test; McNemar 1947 for shares).
"""

from collections.abc import Callable, Sequence
from math import isfinite, isnan, sqrt
from statistics import fmean, stdev

from thalweg.record.ladder import Kind, Ladder, Rung
from thalweg.statistics import NORMAL_95

MIN_SHARED = 10  # samples that two rungs must share for a comparison
MEMORISED = 0.98  # train score from which on a model has memorised its samples
GAP = 0.1  # train minus validation score
LIFT = 0.1  # share of the error; a smaller gain is not worth a sentence, however significant
SLACK = 1.1  # a training loss this many times another is worse

Conclusion = Callable[[Ladder], str]  # a sentence, or "" where it does not hold


def rung_to_stop_at(ladder: Ladder) -> Rung | None:
    """The quickest rung that is not significantly worse than the best; None for no rung."""
    best = best_rung(ladder.rungs)
    if best is None:
        return None
    as_good = [rung for rung in ladder.rungs if not is_better(best, rung)]
    return min(as_good, key=lambda rung: rung.seconds)


def advice(ladder: Ladder) -> str:
    """One sentence with the numbers that it rests on; "" for fewer than two rungs."""
    if len(ladder.rungs) < 2:
        return ""
    return next(filter(None, (conclude(ladder) for conclude in CONCLUSIONS)), "")


def best_rung(rungs: Sequence[Rung], *kinds: Kind) -> Rung | None:
    """The rung of highest score, of these kinds if any are named."""
    candidates = [rung for rung in rungs if not kinds or rung.kind in kinds]
    return max(candidates, key=lambda rung: rung.score, default=None)


def is_better(first: Rung, second: Rung) -> bool:
    """True if the first errs significantly less on the samples that both were scored on."""
    _, high = error_difference(first, second)
    return high < 0


def error_difference(first: Rung, second: Rung) -> tuple[float, float]:
    """The 95 % interval of the mean difference of their errors; unbounded for too few samples."""
    pairs = zip(first.errors, second.errors, strict=False)
    gaps = [a - b for a, b in pairs if isfinite(a) and isfinite(b)]
    if len(gaps) < MIN_SHARED:
        return -float("inf"), float("inf")
    middle, half = fmean(gaps), NORMAL_95 * stdev(gaps) / sqrt(len(gaps))
    return middle - half, middle + half


def _no_signal(ladder: Ladder) -> str:
    chance, best = best_rung(ladder.rungs, "baseline"), best_rung(ladder.rungs)
    if chance is None or best is None or (best is not chance and is_better(best, chance)):
        return ""
    constant = "the majority class" if ladder.metric == "accuracy" else "the mean"
    return (
        f"No rung is significantly better than always predicting {constant} "
        f"({_score(ladder, chance)}; best: {_rung_text(ladder, best)}): the inputs say little "
        "about the targets, or the labels are wrong."
    )


def _failed_optimisation(ladder: Ladder) -> str:
    """A deeper network that is worse on its own training samples (He et al. 2015, Fig. 1)."""
    nets = [rung for rung in ladder.rungs if rung.kind == "network" and isfinite(rung.train_loss)]
    for shallow, deep in ((a, b) for i, a in enumerate(nets) for b in nets[i + 1 :]):
        if deep.train_loss > SLACK * shallow.train_loss and not is_better(deep, shallow):
            return (
                f"{deep.title} is worse than {shallow.title} on their own training samples (loss "
                f"{deep.train_loss:.3g} against {shallow.train_loss:.3g}; {deep.chosen}): that is "
                "optimisation, not overfitting; train it longer or at another learning rate before "
                "judging its depth."
            )
    return ""


def _pretrained_wins(ladder: Ladder) -> str:
    from_scratch = [rung for rung in ladder.rungs if rung.kind != "pretrained"]
    transfer, rest = best_rung(ladder.rungs, "pretrained"), best_rung(from_scratch)
    if transfer is None or rest is None or not is_better(transfer, rest):
        return ""
    return (
        f"Pretrained features win ({_rung_text(ladder, transfer)}; the best from scratch: "
        f"{_rung_text(ladder, rest)}): {ladder.counts.get('train', 0):,} samples are too few to "
        "learn such features from."
    )


def _linear_suffices(ladder: Ladder) -> str:
    linear = best_rung(ladder.rungs, "linear")
    strong = best_rung(
        ladder.rungs, "trees", "feature network", "network", "pretrained", "features"
    )
    if linear is None or strong is None or is_better(strong, linear):
        return ""
    return (
        f"A linear model is as good as anything tried ({_rung_text(ladder, linear)}; best of the "
        f"others: {_rung_text(ladder, strong)}): more capacity does not help; other features or "
        "more samples may."
    )


def _neighbours_suffice(ladder: Ladder) -> str:
    neighbours = best_rung(ladder.rungs, "memory")
    strong = best_rung([rung for rung in ladder.rungs if rung.kind not in ("memory", "baseline")])
    if neighbours is None or strong is None or is_better(strong, neighbours):
        return ""
    return (
        f"Nearest neighbours are as good as anything tried ({_rung_text(ladder, neighbours)}; "
        f"{_rung_text(ladder, strong)}): similar samples have similar targets, and every further "
        "sample helps."
    )


def _overfitting(ladder: Ladder) -> str:
    best = best_rung(ladder.rungs, "network", "feature network")
    if best is None or best is not best_rung(ladder.rungs):
        return ""
    if not (best.train_score >= MEMORISED and best.train_score - best.score >= GAP):
        return ""  # also for NaN: not measured
    return (
        f"{best.title} knows its training samples ({_score_text(ladder, best.train_score)}) but "
        f"not new ones ({_score(ladder, best)}): more samples, augmentation or pretrained features "
        "will help, more capacity will not."
    )


def _spatial_structure(ladder: Ladder) -> str:
    named = {rung.name: rung for rung in ladder.rungs}
    flat = named.get("mlp")
    deep = max(
        (named[name] for name in ("convnet", "resnet") if name in named),
        key=lambda rung: rung.score,
        default=None,
    )
    if flat is None or deep is None or not _lifts(deep, flat):
        return ""
    return (
        f"The data need their two dimensions: convolutions reach {_score(ladder, deep)} "
        f"({deep.title}) where the MLP, which sees a mere list of pixels, "
        f"stays at {_score(ladder, flat)}."
    )


def _features_matter(ladder: Ladder) -> str:
    extracted = best_rung(ladder.rungs, "features", "feature network")
    raw = best_rung(ladder.rungs, "linear", "network")
    if extracted is None or raw is None or not _lifts(extracted, raw):
        return ""
    return (
        f"Features matter more than capacity here: {_rung_text(ladder, extracted)} against "
        f"{_rung_text(ladder, raw)} on the raw inputs; learn better features (a deeper network, a "
        "pretrained one)."
    )


def _capacity_pays(ladder: Ladder) -> str:
    strong = best_rung(ladder.rungs, "network", "feature network")
    plain = best_rung(ladder.rungs, "linear", "memory", "features")
    if strong is None or plain is None or not _lifts(strong, plain):
        return ""
    return (
        f"Capacity pays: {_rung_text(ladder, strong)} against {_rung_text(ladder, plain)}, the "
        "best without a network."
    )


def _best_rung_alone(ladder: Ladder) -> str:
    best, stop = best_rung(ladder.rungs), rung_to_stop_at(ladder)
    if best is None or stop is None:
        return ""
    if best is stop:
        return f"{_rung_text(ladder, best)} is the best, and no quicker rung comes near it."
    return (
        f"{_rung_text(ladder, best)} is the best, but not significantly better than "
        f"{_rung_text(ladder, stop)}."
    )


def _trees_win(ladder: Ladder) -> str:
    trees = best_rung(ladder.rungs, "trees")
    rest = best_rung([rung for rung in ladder.rungs if rung.kind != "trees"])
    if trees is None or rest is None or not is_better(trees, rest):
        return ""
    return (
        f"Trees win on this table ({_rung_text(ladder, trees)}; the best of the others: "
        f"{_rung_text(ladder, rest)}): use them, or train the network longer."
    )


CONCLUSIONS: tuple[Conclusion, ...] = (
    _no_signal,
    _pretrained_wins,
    _failed_optimisation,  # where time was short, networks from scratch lag for that alone
    _trees_win,
    _linear_suffices,
    _neighbours_suffice,
    _overfitting,
    _spatial_structure,
    _features_matter,
    _capacity_pays,
    _best_rung_alone,
)


def _lifts(first: Rung, second: Rung) -> bool:
    saved = (first.score - second.score) / max(1 - second.score, 1e-9)
    return is_better(first, second) and saved > LIFT


def _rung_text(ladder: Ladder, rung: Rung) -> str:
    return f"{rung.title} {_score(ladder, rung)}"


def _score(ladder: Ladder, rung: Rung) -> str:
    return _score_text(ladder, rung.score)


def _score_text(ladder: Ladder, score: float) -> str:
    if isnan(score):
        return "–"
    return f"{100 * score:.1f} %" if ladder.metric == "accuracy" else f"R² {score:.3f}"
