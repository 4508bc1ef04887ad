"""Any number of labels a sample: for each a yes or no of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log, nan, sqrt

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from thalweg.errors import DataError, printable
from thalweg.label_sets import LabelSets, label_sets
from thalweg.recipes.recipe import TaskRecipe
from thalweg.tasks.class_targets import printable_names
from thalweg.tasks.label_losses import LABEL_LOSSES, bce
from thalweg.tasks.label_metrics import exact_match, macro_f1, mean_average_precision, micro_f1
from thalweg.tasks.task import (
    Labels,
    LossFn,
    Prediction,
    Readout,
    TargetFacts,
    Targets,
    Task,
    TaskType,
)
from thalweg.wording import join_labels, some

NAME = "multi-label"
LEAST_RATE = 1e-4  # of a label: none is taken to be impossible, or certain


def multi_label(label_rates: Sequence[float], *, loss: str = "bce") -> Task:
    """Binary cross-entropy of each label's logit, counted from the label's own log-odds.

    `label_rates` are the shares of the training samples that bear each label. Outputs of zero
    predict these, so training begins at chance however rare a label is: Lin et al. 2017,
    arXiv:1708.02002 §4.1. The headline is the mean average precision, which needs no threshold.
    """
    scale = LabelScale(
        rates=tuple(min(max(rate, LEAST_RATE), 1 - LEAST_RATE) for rate in label_rates),
        loss_fn=LABEL_LOSSES[loss],
    )
    return Task(
        name=NAME,
        loss_fn=scale.loss,
        outputs=len(scale.rates),
        chance_loss=scale.chance_loss if loss == "bce" else nan,
        metrics={
            "mean_average_precision": mean_average_precision,
            "macro_f1": scale.of_predictions(macro_f1),
            "micro_f1": scale.of_predictions(micro_f1),
            "exact_match": scale.of_predictions(exact_match),
        },
        headline="mean_average_precision",
        decode=scale.decode,
        predict=scale.predict,
        read=scale.readout,
    )


def label_log_odds(rates: Sequence[float]) -> list[float]:
    """log(p / (1 − p)) of each label's share of the training samples, away from 0 and 1."""
    bounded = (min(max(rate, LEAST_RATE), 1 - LEAST_RATE) for rate in rates)
    return [log(rate / (1 - rate)) for rate in bounded]


def label_threshold(rate: float) -> float:
    """The probability from which on a label of this rate is predicted: 0.5, less for rare labels.

    A label that is missed costs √((1 − p) / p) times as much as one too many, for p below a half:
    the threshold is 1 / (1 + that cost), Elkan 2001 (IJCAI), §2. Measured with linear models on six
    noisy labels of 2 to 50 % (1,000 samples to fit, 1,000 held out, 8 seeds): macro F1 0.586, with
    0.5 for all 0.537, with each label's rate as its threshold 0.520 (standard deviation 0.03).
    """
    return 1 / (1 + sqrt(max(1.0, (1 - rate) / rate)))


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScale:
    """Logits to probabilities and labels, by the labels' shares of the training samples."""

    rates: tuple[float, ...]
    loss_fn: LossFn = bce

    @property
    def chance_loss(self) -> float:
        """Σ H(p) of the rates, in nat: the loss of a model that knows these alone."""
        return -sum(p * log(p) + (1 - p) * log(1 - p) for p in self.rates)

    @property
    def thresholds(self) -> list[float]:
        return [label_threshold(rate) for rate in self.rates]

    def loss(
        self, logits: Float[Tensor, "sample label"], targets: Float[Tensor, "sample label"]
    ) -> Float[Tensor, ""]:
        """The loss of the logits, with the labels' log-odds added."""
        return self.loss_fn(logits.float() + _log_odds(self.rates, str(logits.device)), targets)

    def decode(self, logits: Float[Tensor, "sample label"]) -> Float[Tensor, "sample label"]:
        """The probability of each label, in float32."""
        return (logits.float() + _log_odds(self.rates, str(logits.device))).sigmoid()

    def holds(self, probabilities: Float[Tensor, "... label"]) -> Bool[Tensor, "... label"]:
        """True for the labels that are predicted."""
        return probabilities >= probabilities.new_tensor(self.thresholds)

    def of_predictions(
        self, metric: Callable[[Tensor, Tensor], float]
    ) -> Callable[[Tensor, Tensor], float]:
        """The metric of predicted labels as one of logits."""
        return lambda logits, targets: metric(self.holds(self.decode(logits)), targets > 0.5)

    def predict(
        self, probabilities: Float[Tensor, " label"], class_names: Sequence[str]
    ) -> Prediction:
        """The labels that hold, in their order, with the probabilities of all."""
        named = dict(zip(class_names, probabilities.tolist(), strict=True))
        holding = self.holds(probabilities)
        labels = [name for name, holds in zip(class_names, holding.tolist(), strict=True) if holds]
        text = join_labels(labels, class_names)
        return Prediction(text, _joint(probabilities, holding).item(), named, nan, tuple(labels))

    def readout(
        self,
        logits: Float[Tensor, "sample label"],
        targets: Float[Tensor, "sample label"],
        class_names: Sequence[str],
    ) -> Readout:
        """Lists of labels beside each other; the surest wrong lists first among the worst."""
        probabilities, present = self.decode(logits), targets > 0.5
        holding = self.holds(probabilities)
        joint = _joint(probabilities, holding)
        wrong = (holding != present).any(1)
        worst = (joint * wrong).argsort(descending=True)[: int(wrong.sum())]
        texts = [_texts(rows, class_names) for rows in (present, holding)]
        return Readout(texts[0], texts[1], joint.tolist(), worst.tolist())


def _joint(
    probabilities: Float[Tensor, "... label"], holding: Bool[Tensor, "... label"]
) -> Float[Tensor, "..."]:
    """The probability that exactly these labels hold, were they independent."""
    return torch.where(holding, probabilities, 1 - probabilities).prod(-1)


def _texts(rows: Bool[Tensor, "sample label"], class_names: Sequence[str]) -> list[str]:
    lists = ([n for n, holds in zip(class_names, row, strict=True) if holds] for row in rows)
    return [join_labels(names, class_names) for names in lists]


@lru_cache(maxsize=16)
def _log_odds(rates: tuple[float, ...], device: str) -> Tensor:
    with torch.inference_mode(False):  # else the cached tensor would be of no use to autograd
        return torch.tensor(label_log_odds(rates), dtype=torch.float32, device=device)


def label_targets(labels: Labels | np.ndarray, place: str) -> Targets | None:
    """A row of zeros and ones for each sample; None where each sample has one label.

    Raises: DataError for a single label, and for one that all samples bear.
    """
    if isinstance(labels, np.ndarray):
        return None
    listed = LabelSets(labels.members) if labels.members else label_sets(labels.texts)
    if not listed.sets:
        return None
    used = [listed.sets[code] for code in np.unique(labels.codes)]
    names = sorted({name for members in used for name in members}, key=_order)
    if not names:
        raise DataError(
            "no sample bears a label", seen=place, fix="give samples of each label to predict"
        )
    columns = {name: column for column, name in enumerate(names)}
    table = np.zeros((len(listed.sets), len(names)), dtype=np.float32)
    for row, members in enumerate(listed.sets):
        table[row, [columns[name] for name in members if name in columns]] = 1
    values = table[labels.codes]
    _check_varies(values, place)
    return Targets(
        task=NAME,
        values=values,
        class_names=printable_names(names),
        notes=(_note(values, names, place),),
    )


def _order(name: str) -> tuple[int, str]:
    """Whole numbers by value, words by their letters."""
    return (int(name) if name.isdecimal() else 0, name)


def _check_varies(values: np.ndarray, place: str) -> None:
    if (values == values[:1]).all():
        raise DataError(
            "all samples bear the same labels: nothing to tell apart",
            seen=f"{place}: {len(values):,} samples",
            fix="give samples that lack some of the labels",
        )


def _note(values: np.ndarray, names: Sequence[str], place: str) -> str:
    quoted = some([repr(printable(name)) for name in names])
    return (
        f"task: {NAME}, {len(names):,} labels in {place} ({quoted}), {values.sum(1).mean():.2g} a "
        "sample; --task classification makes each combination a class"
    )


def build(facts: TargetFacts, recipe: TaskRecipe) -> Task:
    """The task with the loss that the recipe names, at the rates of the training targets."""
    return multi_label(facts.label_rates, loss="bce" if recipe.loss == "auto" else recipe.loss)


MULTI_LABEL = TaskType(
    name=NAME,
    answers="labels",
    targets=label_targets,
    losses=LABEL_LOSSES,
    standard_loss="bce",
    build=build,
)
