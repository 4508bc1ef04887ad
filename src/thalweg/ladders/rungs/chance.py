"""The baseline rung: predict the commonest class, or the mean, whatever the inputs."""

import torch

from thalweg.ladders.ladder_data import LadderData
from thalweg.ladders.rung import RungMaker, RungResult


def score_constant(data: LadderData) -> RungResult:
    targets, count = data.targets("train"), len(data.targets("val"))
    constant = targets.mode().values if data.is_classification else targets.double().mean()
    predictions = constant.expand(count).clone()
    train_score = data.score(constant.expand(len(targets)), targets)
    if data.is_classification:
        chosen = f"always {data.dataset.class_names[int(constant)]}"
    else:
        chosen = f"always {constant.item():.4g}"
    dtype = torch.int64 if data.is_classification else torch.float64
    return RungResult(predictions.to(dtype), train_score, chosen=chosen)


RUNG = RungMaker(name="chance", title="chance", kind="baseline", run=score_constant)
