"""What a climb says of the data, and which of its rungs is worth stopping at.

Rungs are compared on the same validation samples, error by error: the interval of the mean
difference is much narrower than the two scores' own (the paired test; McNemar 1947 for shares).
"""

from collections.abc import Callable, Sequence
from math import isfinite, isnan, sqrt
from statistics import fmean, stdev

from thalweg.record.ladder import Kind, Ladder, Rung

SURE = 1.96  # standard errors: 95 %
FEWEST = 10  # samples that two rungs must share for a comparison
KNOWN_BY_HEART = 0.98  # train score from which on a model has learnt its samples
GAP = 0.1  # train less validation score
LIFT = 0.1  # of the error; what saves less is not worth a sentence, however sure
SLACK = 1.1  # a training loss this many times another is worse than it

Saying = Callable[[Ladder], str]


def worth_stopping_at(climb: Ladder) -> Rung | None:
    """The quickest rung that is not shown to be worse than the best one; None for no rung."""
    best = best_of(climb.rungs)
    if best is None:
        return None
    as_good = [rung for rung in climb.rungs if not better(best, rung)]
    return min(as_good, key=lambda rung: rung.seconds)


def advice(climb: Ladder) -> str:
    """One sentence with the numbers that it rests on; "" for fewer than two rungs."""
    if len(climb.rungs) < 2:
        return ""
    return next(filter(None, (say(climb) for say in SAYINGS)), "")


def best_of(rungs: Sequence[Rung], *kinds: Kind) -> Rung | None:
    """The rung of highest score, of these kinds if any are named."""
    found = [rung for rung in rungs if not kinds or rung.kind in kinds]
    return max(found, key=lambda rung: rung.score, default=None)


def better(first: Rung, second: Rung) -> bool:
    """Whether the first errs less on the samples that both were judged on, surely so."""
    _, high = difference(first, second)
    return high < 0


def difference(first: Rung, second: Rung) -> tuple[float, float]:
    """The 95 % interval of the mean difference of their errors; unbounded for too few samples."""
    pairs = zip(first.errors, second.errors, strict=False)
    gaps = [a - b for a, b in pairs if isfinite(a) and isfinite(b)]
    if len(gaps) < FEWEST:
        return -float("inf"), float("inf")
    middle, half = fmean(gaps), SURE * stdev(gaps) / sqrt(len(gaps))
    return middle - half, middle + half


def _nothing_learnt(climb: Ladder) -> str:
    base, best = best_of(climb.rungs, "baseline"), best_of(climb.rungs)
    if base is None or best is None or (best is not base and better(best, base)):
        return ""
    about = "the majority class" if climb.metric == "accuracy" else "the mean"
    return (
        f"No rung is surely better than always answering {about} ({_score(climb, base)}; best: "
        f"{_both(climb, best)}): the inputs tell little of the targets, or the labels are wrong."
    )


def _optimisation(climb: Ladder) -> str:
    """A deeper network that is worse on its own training samples (He et al. 2015, Fig. 1)."""
    nets = [rung for rung in climb.rungs if rung.kind == "network" and isfinite(rung.train_loss)]
    for shallow, deep in ((a, b) for i, a in enumerate(nets) for b in nets[i + 1 :]):
        if deep.train_loss > SLACK * shallow.train_loss and not better(deep, shallow):
            return (
                f"{deep.title} is worse than {shallow.title} on their own training samples (loss "
                f"{deep.train_loss:.3g} against {shallow.train_loss:.3g}; {deep.chosen}): that is "
                "optimisation, not overfitting; train it longer or at another learning rate before "
                "judging its depth."
            )
    return ""


def _pretrained(climb: Ladder) -> str:
    own = [rung for rung in climb.rungs if rung.kind != "pretrained"]
    transfer, rest = best_of(climb.rungs, "pretrained"), best_of(own)
    if transfer is None or rest is None or not better(transfer, rest):
        return ""
    return (
        f"Pretrained features win ({_both(climb, transfer)}; the best from scratch: "
        f"{_both(climb, rest)}): {climb.counts.get('train', 0):,} samples are too few to learn "
        "such features from."
    )


def _linear_enough(climb: Ladder) -> str:
    line = best_of(climb.rungs, "linear")
    strong = best_of(climb.rungs, "feature network", "network", "pretrained", "features")
    if line is None or strong is None or better(strong, line):
        return ""
    return (
        f"A linear model is as good as anything tried ({_both(climb, line)}; best of the others: "
        f"{_both(climb, strong)}): more capacity does not help; other features or more samples may."
    )


def _neighbours_enough(climb: Ladder) -> str:
    near = best_of(climb.rungs, "memory")
    strong = best_of([rung for rung in climb.rungs if rung.kind not in ("memory", "baseline")])
    if near is None or strong is None or better(strong, near):
        return ""
    return (
        f"Nearest neighbours are as good as anything tried ({_both(climb, near)}; "
        f"{_both(climb, strong)}): like samples have like targets, and every sample more helps."
    )


def _by_heart(climb: Ladder) -> str:
    best = best_of(climb.rungs, "network", "feature network")
    if best is None or best is not best_of(climb.rungs):
        return ""
    if not (best.train_score >= KNOWN_BY_HEART and best.train_score - best.score >= GAP):
        return ""  # NaN, where it was not measured, as well
    return (
        f"{best.title} knows its training samples ({_figure(climb, best.train_score)}) but not new "
        f"ones ({_score(climb, best)}): more samples, augmentation or pretrained features will "
        "help, more capacity will not."
    )


def _structure(climb: Ladder) -> str:
    named = {rung.name: rung for rung in climb.rungs}
    flat = named.get("mlp")
    deep = max(
        (named[name] for name in ("convnet", "resnet") if name in named),
        key=lambda rung: rung.score,
        default=None,
    )
    if flat is None or deep is None or not _lifts(deep, flat):
        return ""
    return (
        f"The data need their two dimensions: convolutions reach {_score(climb, deep)} "
        f"({deep.title}) where the MLP, which sees a mere list of pixels, "
        f"stays at {_score(climb, flat)}."
    )


def _features_matter(climb: Ladder) -> str:
    made = best_of(climb.rungs, "features", "feature network")
    raw = best_of(climb.rungs, "linear", "network")
    if made is None or raw is None or not _lifts(made, raw):
        return ""
    return (
        f"Features matter more than capacity here: {_both(climb, made)} against "
        f"{_both(climb, raw)} "
        "on the raw inputs; learn better ones (a deeper network, a pretrained one)."
    )


def _networks_pay(climb: Ladder) -> str:
    strong = best_of(climb.rungs, "network", "feature network")
    plain = best_of(climb.rungs, "linear", "memory", "features")
    if strong is None or plain is None or not _lifts(strong, plain):
        return ""
    return (
        f"Capacity pays: {_both(climb, strong)} against {_both(climb, plain)}, the best without a "
        "network."
    )


def _plain_best(climb: Ladder) -> str:
    best, stop = best_of(climb.rungs), worth_stopping_at(climb)
    if best is None or stop is None:
        return ""
    if best is stop:
        return f"{_both(climb, best)} is the best, and no quicker rung comes near it."
    return f"{_both(climb, best)} is the best, yet not surely better than {_both(climb, stop)}."


SAYINGS: tuple[Saying, ...] = (
    _nothing_learnt,
    _optimisation,
    _pretrained,
    _linear_enough,
    _neighbours_enough,
    _by_heart,
    _structure,
    _features_matter,
    _networks_pay,
    _plain_best,
)


def _lifts(first: Rung, second: Rung) -> bool:
    saved = (first.score - second.score) / max(1 - second.score, 1e-9)
    return better(first, second) and saved > LIFT


def _both(climb: Ladder, rung: Rung) -> str:
    return f"{rung.title} {_score(climb, rung)}"


def _score(climb: Ladder, rung: Rung) -> str:
    return _figure(climb, rung.score)


def _figure(climb: Ladder, score: float) -> str:
    if isnan(score):
        return "–"
    return f"{100 * score:.1f} %" if climb.metric == "accuracy" else f"R² {score:.3f}"
