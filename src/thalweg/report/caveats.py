"""Caveats: facts that a score cannot be read without, however clean the training was."""

from collections import Counter
from collections.abc import Iterator
from math import sqrt
from typing import NamedTuple

import numpy as np

from thalweg.record.quantities import CHANCE_LOSS
from thalweg.report.facts import SPLITS, Facts
from thalweg.report.score_interval import target_and_predicted
from thalweg.report.trees import FULL_NAMES, better_model, comparisons
from thalweg.wording import count, figure, percent, visible

ONE_SIDED = 1.645  # standard errors: 95 %


class Caveat(NamedTuple):
    title: str
    text: str  # a sentence


def caveats(facts: Facts) -> list[Caveat]:
    """The score beside chance, then what the data were noticed to lack."""
    from_data = [Caveat(each["title"], each["text"]) for each in facts.meta.get("caveats") or ()]
    return [
        *_no_better_than_chance(facts),
        *_beside_a_part(facts),
        *_behind_classical_model(facts),
        *from_data,
    ]


def _beside_a_part(facts: Facts) -> Iterator[Caveat]:
    """Compare with a model that sees a part of the inputs, such as a question without its image."""
    simple = facts.meta.get("partial") or {}
    if simple.get("is_beaten") is False:
        name = visible(simple["name"])
        yield Caveat(
            f"{name.capitalize()} does as well",
            f"answering by {name} is right on {percent(simple['score'])} of the same samples: "
            "the rest of the inputs is not shown to be used",
        )


def _behind_classical_model(facts: Facts) -> Iterator[Caveat]:
    if kind := better_model(facts):
        name = FULL_NAMES[kind]
        yield Caveat(
            f"{name[:1].upper()}{name[1:]} {'do' if kind == 'trees' else 'does'} better",
            f"{name}: {comparisons(facts)[kind]}",
        )


def _no_better_than_chance(facts: Facts) -> Iterator[Caveat]:
    if facts.answers == "classes" and facts.predictions:
        yield from _beside_majority(facts)
    elif facts.answers == "values" and facts.predictions:
        yield from _beside_mean(facts)
    elif facts.answers == "labels":
        yield from _beside_chance_loss(facts)
    elif facts.answers == "tokens":
        yield from _beside_counts(facts)
    elif facts.answers == "sequences":
        yield from _beside_simple_answers(facts)
    elif facts.answers == "steps":
        yield from _beside_naive(facts)


def _beside_majority(facts: Facts) -> Iterator[Caveat]:
    """Compare with always answering the most frequent class, sample by sample (McNemar 1947)."""
    rows = facts.predictions
    majority, frequency = Counter(row.target for row in rows).most_common(1)[0]
    right = sum(row.target == row.predicted for row in rows)
    gained = sum(row.target == row.predicted != majority for row in rows)
    lost = sum(row.target == majority != row.predicted for row in rows)
    if gained - lost > ONE_SIDED * sqrt(gained + lost):
        return
    split = SPLITS[facts.split]
    yield Caveat(
        f"{split.capitalize()} is at chance"
        if right <= frequency
        else f"{split.capitalize()} is not shown to be above chance",
        f"{count(right)} of {count(len(rows), f'{split} sample')} are right; always answering "
        f"{visible(majority)} would be right on {count(frequency)}",
    )


def _beside_mean(facts: Facts) -> Iterator[Caveat]:
    """Compare the squared errors with those of always answering the mean, sample by sample."""
    targets, predicted = target_and_predicted(facts.predictions)
    if len(targets) < 2:
        return
    with np.errstate(all="ignore"):  # numbers of somebody's run may overflow
        gains = np.square(targets - targets.mean()) - np.square(targets - predicted)
        error = float(gains.std(ddof=1)) / sqrt(len(gains))
    if not float(gains.mean()) <= ONE_SIDED * error:
        return
    split = SPLITS[facts.split]
    yield Caveat(
        f"{split.capitalize()} is not shown to be above chance",
        f"on {count(len(targets), f'{split} sample')} the predictions are not shown to be nearer "
        "than always answering the mean",
    )


def _beside_counts(facts: Facts) -> Iterator[Caveat]:
    """Compare the loss with those of the tables of counts."""
    loss, counts = facts.metrics.get("val_loss"), facts.meta.get("baselines") or {}
    better = [name for name in ("unigram", "trigram") if loss and counts.get(name, loss) < loss]
    if loss and better:
        name = better[-1]
        yield Caveat(
            "Counting does better",
            f"the validation loss is {figure(loss)}; a table of counts ({name}s of the training "
            f"text) has {figure(counts[name])}: train longer, or on more text",
        )


def _beside_simple_answers(facts: Facts) -> Iterator[Caveat]:
    """Compare the share of right sequences, or else BLEU, with those of simple answers."""
    scores = dict(facts.meta.get("simple_answers") or {})
    own = scores.pop("this network", None)
    if own is None or not scores:
        return
    for metric in ("exact_match", "bleu"):
        best = max(scores, key=lambda name: scores[name].get(metric, 0.0))
        mine, other = own.get(metric, 0.0), scores[best].get(metric, 0.0)
        if mine > other:
            return
        if other > mine:
            words = {"exact_match": "exact match", "bleu": "BLEU"}[metric]
            yield Caveat(
                "A simple answer does as well",
                f"the {words} of what the network writes is {figure(mine)}, that of {best} "
                f"{figure(other)}: train longer, or on more pairs",
            )
            return


def _beside_naive(facts: Facts) -> Iterator[Caveat]:
    """Compare with the better of the naive and the seasonal naive forecast, by blocks of time."""
    outcome = facts.meta.get("forecast")
    if not outcome or outcome["verdict"]["answer"] == "better":
        return
    rival, blocks = (
        str(outcome["rival"]),
        count(outcome["verdict"]["blocks"], "stretch", "stretches"),
    )
    scores = {row["name"]: row["mase"] for row in outcome["scores"]}
    own, other = (figure(scores[name] or 0.0) for name in ("this network", rival))
    values = f"MASE {own}, {rival} {other}, on {blocks} of validation without common targets"
    if outcome["verdict"]["answer"] == "worse":
        yield Caveat(f"The {rival} forecast does better", f"{values}: use that, or give more data")
    else:
        yield Caveat(
            f"Not shown to beat the {rival} forecast", f"{values}: the difference may be chance"
        )


def _beside_chance_loss(facts: Facts) -> Iterator[Caveat]:
    loss = facts.metrics.get("val_loss")
    if loss is None or CHANCE_LOSS not in facts.history:
        return
    chance = facts.history.last(CHANCE_LOSS)
    if loss >= chance:
        yield Caveat(
            "Validation is at chance",
            f"the validation loss is {figure(loss)}; always answering each label's rate gives "
            f"{figure(chance)}",
        )
