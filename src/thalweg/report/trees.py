"""The score of gradient-boosted trees beside that of a table's network, in words."""

from thalweg.report.facts import Facts, is_share, metric_name
from thalweg.wording import count, duration, figure, percent

VERDICTS = {  # of the errors on the same rows
    "better": "better than this network on the same rows",
    "worse": "worse than this network on the same rows",
    "alike": "not shown to differ from this network",
}


def trees_text(facts: Facts) -> str:
    """Score, verdict and cost; or why they were not compared; "" for what is no table."""
    trees, metric = facts.meta.get("trees"), facts.validation_metric
    if not trees:
        return ""
    if reason := trees.get("reason"):
        return f"not compared: {reason}"
    score = trees["score"]
    if score is None or not metric:
        return "not compared: their score is not a number"
    value = percent(score) if is_share(metric) else figure(score)
    judgement = VERDICTS.get(trees["verdict"])
    cost = f"{count(trees['rounds'], 'round')}, {duration(trees['seconds'])}"
    return f"{metric_name(metric)} {value}{f', {judgement}' if judgement else ''} ({cost})"
