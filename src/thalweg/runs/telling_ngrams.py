"""The words and neighbours that speak most for each class, or for a high value."""

import torch
from torch import nn

from thalweg.data.batch import each_tensor, forward
from thalweg.planning.plan import Plan
from thalweg.tasks import TASKS

MOST_NAMES, MOST_CLASSES = 12, 20
BATCH = 256


@torch.inference_mode()
def telling_ngrams(plan: Plan, model: nn.Module) -> dict[str, list[str]]:
    """The n-grams by class, the most telling first; {} for inputs that have none.

    The outputs for a text of one n-gram, less those for a text without any: of classes, less their
    mean. The n-grams are the most frequent ones of the training texts.
    """
    modality, preprocessing = plan.dataset.modality, plan.dataset.preprocessing
    answers = TASKS[plan.dataset.facts.task].answers
    if modality.probes is None or answers not in ("classes", "labels", "values"):
        return {}
    names, raw = zip(*modality.probes(preprocessing), strict=True)
    was_training = model.training
    model.eval()
    parts = []
    for start in range(0, len(raw), BATCH):
        batch = modality.collate(raw[start : start + BATCH])
        batch = each_tensor(batch, lambda tensor: tensor.to(plan.recipe.device))
        parts.append(forward(model, preprocessing.to_inputs(batch)).float().cpu())
    model.train(was_training)
    outputs = torch.cat(parts)
    effects = outputs[:-1] - outputs[-1]
    if answers == "classes":
        effects = effects - effects.mean(dim=1, keepdim=True)
    if answers == "values":
        return {"higher": _top(effects[:, 0], names), "lower": _top(-effects[:, 0], names)}
    classes = plan.dataset.class_names[:MOST_CLASSES]
    return {name: _top(effects[:, place], names) for place, name in enumerate(classes)}


def _top(effects: torch.Tensor, names: tuple[str, ...]) -> list[str]:
    order = effects.argsort(descending=True, stable=True)[:MOST_NAMES].tolist()
    return [names[place] for place in order if effects[place] > 0]
