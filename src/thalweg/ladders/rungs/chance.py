"""The rung that knows nothing: always the commonest class, or the mean."""

import torch

from thalweg.ladders.rung import RungMaker
from thalweg.ladders.samples import Climbed, Ground


def climb(ground: Ground) -> Climbed:
    targets, count = ground.targets("train"), len(ground.targets("val"))
    answer = targets.mode().values if ground.classifies else targets.double().mean()
    predicted = answer.expand(count).clone()
    train = ground.score(answer.expand(len(targets)), targets)
    names = ground.dataset.class_names
    chosen = f"always {names[int(answer)]}" if ground.classifies else f"always {answer.item():.4g}"
    return Climbed(
        predicted.to(torch.int64 if ground.classifies else torch.float64), train, chosen=chosen
    )


RUNG = RungMaker(name="chance", title="chance", kind="baseline", climb=climb)
