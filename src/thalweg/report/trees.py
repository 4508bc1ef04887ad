"""The score of a classical model beside that of a network of tables or texts, in words."""

from thalweg.report.facts import Facts, is_share, metric_name
from thalweg.wording import count, duration, figure, percent

NAMES = {"trees": "boosted trees", "linear": "TF-IDF + linear"}
FULL_NAMES = {
    "trees": "gradient-boosted trees",
    "linear": "TF-IDF with a linear model",
}
VERDICTS = {  # of the errors on the same rows
    "better": "better than this network on the same rows",
    "worse": "worse than this network on the same rows",
    "alike": "not shown to differ from this network",
}


def comparisons(facts: Facts) -> dict[str, str]:
    """Score, verdict and cost of each classical model, or why it was not compared."""
    return {kind: _text(facts, kind) for kind in NAMES if facts.meta.get(kind)}


def better_model(facts: Facts) -> str:
    """The kind of the classical model that is better than the network; "" for none."""
    kinds = (kind for kind in NAMES if (facts.meta.get(kind) or {}).get("verdict") == "better")
    return next(kinds, "")


def _text(facts: Facts, kind: str) -> str:
    model, metric = facts.meta[kind], facts.validation_metric
    if reason := model.get("reason"):
        return f"not compared: {reason}"
    score = model["score"]
    if score is None or not metric:
        return "not compared: the score is not a number"
    value = percent(score) if is_share(metric) else figure(score)
    judgement = VERDICTS.get(model["verdict"])
    cost = f"{count(model['rounds'], 'round')}, {duration(model['seconds'])}"
    return f"{metric_name(metric)} {value}{f', {judgement}' if judgement else ''} ({cost})"
