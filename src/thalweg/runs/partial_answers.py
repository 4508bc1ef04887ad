"""Beside a network's score: a simple model that sees a part of its inputs, and scores by kind."""

from collections import defaultdict

import numpy as np

from thalweg.planning.plan import Plan
from thalweg.runs.classical_rival import verdict_of
from thalweg.runs.results import predicted_numbers
from thalweg.training.evaluate import Evaluation

MOST_KINDS = 20


def compare_with_a_part(plan: Plan, evaluation: Evaluation) -> dict[str, object] | None:
    """The accuracy of the modality's simple model, and whether the network is better (paired).

    None where the modality has none.
    """
    dataset = plan.dataset
    if dataset.modality.partial_answers is None or not dataset.class_names:
        return None
    rows = dataset.indices
    name, answers = dataset.modality.partial_answers(
        dataset.inputs, dataset.targets, train=rows["train"], val=rows["val"]
    )
    targets = evaluation.targets.numpy()
    network = predicted_numbers(plan.task, evaluation.logits).numpy() == targets
    simple = answers == targets
    verdict = verdict_of(simple.astype(np.float64) - network)
    return {
        "name": name,
        "score": float(simple.mean()),
        "is_beaten": None if verdict == "unknown" else verdict == "worse",
    }


def scores_by_kind(plan: Plan, evaluation: Evaluation) -> list[dict[str, object]]:
    """Samples and right answers of each kind, the most frequent first; [] without kinds."""
    dataset = plan.dataset
    if dataset.modality.kinds is None or not dataset.class_names:
        return []
    kinds = dataset.modality.kinds(dataset.inputs)
    targets = evaluation.targets.numpy()
    right = predicted_numbers(plan.task, evaluation.logits).numpy() == targets
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row, is_right in zip(dataset.indices["val"].tolist(), right.tolist(), strict=True):
        counts[kinds[row]][0] += 1
        counts[kinds[row]][1] += is_right
    ranked = sorted(counts.items(), key=lambda pair: -pair[1][0])[:MOST_KINDS]
    return [{"name": name, "samples": n, "right": good} for name, (n, good) in ranked]
