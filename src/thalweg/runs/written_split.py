"""The sequences that a trained encoder–decoder writes for a split, scored beside simple answers."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np
import torch
from torch import nn

from thalweg.data.batch import each_tensor
from thalweg.inference.write_sequences import Written, write_sequences
from thalweg.models.sequences.encoder_decoder import EncoderDecoder
from thalweg.planning.plan import Plan
from thalweg.record import PredictionRow, RunWriter
from thalweg.report.sequences_section import ATTENTION
from thalweg.runs.simple_answers import simple_answers
from thalweg.tasks.text_metrics import bleu, exact_match

MOST_WRITTEN, FEW_WRITTEN = 2_000, 200  # samples of a split; few where somebody waits
BATCH = 128  # samples that are written for at once
PICTURED = 3  # samples whose attention is shown
MOST_PICTURED = 48  # tokens of a side in a picture of attention
_WORDS = re.compile(r"\w+|[^\w\s]")
WORDY = 2.0  # words of a reference, in the mean, from which on runs of words are compared


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenSplit:
    """The sequences, their scores and those of simple answers."""

    rows: list[PredictionRow]
    metrics: Mapping[str, float]  # val_bleu
    answers: Mapping[str, Mapping[str, float]]  # scores of simple answers, by their name
    attention: list[Mapping[str, Any]]  # a picture each: tokens of both sides, and weights


def write_split(plan: Plan, model: nn.Module, split: str, *, most: int) -> WrittenSplit | None:
    """Write for at most so many samples of a split; None for a network that writes none.

    Exact match and BLEU are those of free writing, against every target of the same source.
    """
    if not isinstance(model, EncoderDecoder):
        return None
    rows = spaced(plan.dataset.indices[split], most)
    written = _written(plan, model, rows)
    texts = [plan.spec.text_of(one.tokens) for one in written]
    pairs = [plan.dataset.inputs[row] for row in rows.tolist()]
    targets = [plan.spec.text_of(pair.target.tolist()) for pair in pairs]
    sources = [_source_text(plan, row) for row in rows.tolist()]
    references = _references(sources, targets)
    metrics = text_scores(texts, references)
    answers = simple_answers(plan, rows)
    scores = {"this network": metrics} | {
        name: text_scores(one, references) for name, one in answers.items()
    }
    listed = zip(sources, targets, texts, written, strict=True)
    return WrittenSplit(
        rows=[
            PredictionRow(split, source, target, text, exp(one.log_probability), None)
            for source, target, text, one in listed
        ],
        metrics={f"{split}_{name}": value for name, value in metrics.items() if name == "bleu"},
        answers=scores,
        attention=_attention(plan, model, rows[_pictured(texts, targets)]),
    )


def record_written(writer: RunWriter, written: WrittenSplit) -> None:
    """Record the predictions, the scores of simple answers, and the pictures of attention."""
    writer.predictions(written.rows)
    writer.set("simple_answers", written.answers)
    for picture in written.attention:
        writer.event(ATTENTION, "", **picture)


def spaced(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(np.int64)]


def text_scores(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Exact match, and BLEU-4 of words and signs where the references have several words."""
    hypotheses = [text.split() for text in texts]
    split = [[one.split() for one in alternatives] for alternatives in references]
    scores = {"exact_match": exact_match(hypotheses, split)}
    own = [_WORDS.findall(text) for text in texts]
    others = [[_WORDS.findall(one) for one in alternatives] for alternatives in references]
    words = [len(one) for alternatives in split for one in alternatives]
    if sum(words) >= WORDY * len(words):
        scores["bleu"] = bleu(own, others)[3]
    return scores


def _references(sources: Sequence[str], targets: Sequence[str]) -> list[list[str]]:
    """Every target of the same source, for each sample."""
    by_source: dict[str, list[str]] = defaultdict(list)
    for source, target in zip(sources, targets, strict=True):
        by_source[source].append(target)
    return [by_source[source] for source in sources]


def _source_text(plan: Plan, row: int) -> str:
    modality, dataset = plan.dataset.modality, plan.dataset
    return modality.text_of_row(dataset.preprocessing, dataset.inputs[row]) or dataset.names[row]


def source_inputs(plan: Plan, rows: np.ndarray) -> Any:
    """The model's inputs for these rows, on its device."""
    dataset, device = plan.dataset, torch.device(plan.recipe.device)
    batch = dataset.modality.collate([dataset.inputs[row] for row in rows.tolist()])
    inputs = dataset.preprocessing.to_inputs(batch)
    return each_tensor(inputs, lambda tensor: tensor.to(device))


def _written(plan: Plan, model: EncoderDecoder, rows: np.ndarray) -> list[Written]:
    """The greedy sequence of each row; rows of similar length are written together."""
    lengths = plan.dataset.modality.row_lengths
    order = np.arange(len(rows))
    if lengths is not None:
        order = np.argsort(lengths(plan.dataset.inputs)[rows], kind="stable")
    written: list[Written | None] = [None] * len(rows)
    for start in range(0, len(rows), BATCH):
        places = order[start : start + BATCH]
        results = write_sequences(model, source_inputs(plan, rows[places]))
        for place, (best, *_) in zip(places.tolist(), results, strict=True):
            written[place] = best
    return [one for one in written if one is not None]


def _pictured(texts: Sequence[str], targets: Sequence[str]) -> list[int]:
    """Places of samples to picture: a wrong one and right ones, as far as there are any."""
    wrong = [place for place, text in enumerate(texts) if text != targets[place]]
    right = [place for place, text in enumerate(texts) if text == targets[place]]
    return (wrong[:1] + right)[:PICTURED] or [0]


@torch.inference_mode()
def _attention(plan: Plan, model: EncoderDecoder, rows: np.ndarray) -> list[Mapping[str, Any]]:
    """The weight of each source token at each token that is written; none without attention."""
    weights_of = getattr(model.decoder, "attention_weights", None)
    has_attention = getattr(model.decoder, "attention", True) is not None
    token_texts = plan.dataset.modality.token_texts
    if weights_of is None or not has_attention or token_texts is None:
        return []
    model.eval()
    pictures: list[Mapping[str, Any]] = []
    for row in rows.tolist():
        sources = source_inputs(plan, np.array([row]))
        ((best,),) = write_sequences(model, sources)
        tokens = torch.tensor([[0, *best.tokens[:-1]]], device=next(model.parameters()).device)
        weights = weights_of(tokens, model.encode(sources))[0, :MOST_PICTURED, :MOST_PICTURED]
        own = [plan.spec.text_of([token]) or "end" for token in best.tokens]
        pictures.append(
            {
                "source": token_texts(plan.dataset.preprocessing, plan.dataset.inputs[row])[
                    :MOST_PICTURED
                ],
                "written": own[:MOST_PICTURED],
                "weights": [[round(w, 3) for w in line] for line in weights.tolist()],
            }
        )
    return pictures
