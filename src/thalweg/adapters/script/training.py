"""One training of a program: a model and its optimizers, driven through the usual two lines."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.adapters.script.loaders import BatchForm, LoaderParts
from thalweg.adapters.script.loss_leaves import reaches
from thalweg.adapters.script.roots import is_compiled
from thalweg.adapters.script.validation import ValidationScores
from thalweg.diagnosis import Diagnosis
from thalweg.observe import Watcher
from thalweg.observe.compiler import compiler_in_use
from thalweg.observe.data_sample import Pair
from thalweg.observe.guard import ReportFailure
from thalweg.observe.loss_graph import RESCALED, mark_rescaled, with_value

SCALED = "thalweg: the loss before it was scaled"  # in a node's metadata


@dataclass(slots=True)
class Loss:
    """The loss of one backward pass since the last update."""

    tensor: Tensor
    value: Tensor  # detached, one number
    node: Any  # of the graph: the loss's last operation
    is_scaled: bool
    divisor: float  # of the last operation, if it is a division
    in_step: bool = False  # computed by a closure, within the optimizer's step
    used: bool = False  # for an update of another model


class Training:
    """Collects the losses of each update, and calls the watcher's `step` once an update."""

    def __init__(self, name: str, watcher: Watcher, optimizers: list[Optimizer]) -> None:
        self.name, self.watcher = name, watcher
        self.optimizers = optimizers
        self.updates = 0
        self.form: BatchForm | None = None  # of the batches of its loader
        self.scores: ValidationScores | None = None
        self.batch: Pair | None = None  # the last one, where it has targets
        self.updates_without_loss = 0
        self.idle_since_new = False  # no update since another optimizer was made
        self._train: LoaderParts | None = None
        self._val: LoaderParts | None = None
        self._others: set[tuple[int, int]] = set()  # loaders of neither split, by key
        self._losses: list[Loss] = []
        self._in_step = 0
        self._stepped: set[int] = set()  # ids of the optimizers that have stepped in this update
        self._active: set[int] = set()  # those of the last update
        self._sentinel: Tensor | None = None  # a weight that gets a gradient in every update

    @property
    def model(self) -> nn.Module:
        return self.watcher.model

    def owns(self, optimizer: Optimizer) -> bool:
        """True if this is one of the training's optimizers."""
        return any(one is optimizer for one in self.optimizers)

    def weight_ids(self) -> set[int]:
        """The ids of the weights in the optimizers."""
        return {
            id(weight)
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for weight in group["params"]
        }

    def add_loss(self, loss: Loss) -> None:
        """Note the loss of a backward pass that reaches these weights."""
        self.finish_update()
        if self.scores is not None:
            self.scores.finish_pass()
        if self._sentinel is not None and self._sentinel.grad is None:
            self._losses.clear()  # the gradients of the earlier passes have been cleared
        loss.in_step = self._in_step > 0
        self._losses.append(loss)

    def feed_from(
        self, loader: LoaderParts, form: BatchForm, *, report_failure: ReportFailure
    ) -> None:
        """Note the loader that feeds the model: its batches tell of targets and of validation."""
        self.form, self._train = form, loader
        if form.has_targets and (is_compiled(self.model) or not compiler_in_use()):
            self.scores = ValidationScores(self.watcher, form, report_failure)

    def note_batch(self, loader: LoaderParts, batch: Any) -> None:
        """Note a batch that is read while no model trains: it may be one of validation."""
        if self.form is None or self._train is None or loader.key in self._others:
            return
        if self._val is None:
            if loader.key == self._train.key or loader.reads_same_samples(self._train):
                self._others.add(loader.key)
                return
            self._val = loader
        if loader.key == self._val.key and self.scores is not None:
            self.scores.batch = batch

    def diagnose(self, *, reads_data: bool) -> Diagnosis:
        """Stop watching, and diagnose."""
        self.finish_update()
        if self.scores is not None:
            self.scores.close()
        if reads_data and self.form is not None:
            train, val = (
                None if one is None else one.batches(self.form) for one in (self._train, self._val)
            )
            self.watcher.set_loaders(train, val)
        diagnosis: Diagnosis = self.watcher.diagnose()
        self.watcher.close()
        return diagnosis

    def begin_step(self) -> None:
        """Enter an optimizer's step, which may call a closure, or another optimizer's step."""
        self._in_step += 1

    def end_step(self, optimizer: Optimizer) -> None:
        """Leave an optimizer's step; the update is over when all that step have stepped."""
        self._in_step = max(0, self._in_step - 1)
        self._stepped.add(id(optimizer))
        due = self._active or {id(one) for one in self.optimizers}
        if self._in_step == 0 and due <= self._stepped:
            self.finish_update()

    def finish_update(self) -> None:
        """Pass the update's loss to the watcher, if an optimizer has stepped."""
        if not self._stepped or self._in_step:
            return
        self._active, self._stepped = self._stepped, set()
        losses, self._losses = self._losses, []
        own = [one for one in losses if not one.used] or losses
        if not own:
            self.updates_without_loss += 1
            return
        for one in own:
            one.used = True
        self.watcher.step(_loss_of_update(own), self.batch)
        self.batch = None
        self.updates += 1
        self.idle_since_new = False
        if self._sentinel is None:
            self._sentinel = self._weight_with_gradient()

    def _weight_with_gradient(self) -> Tensor | None:
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        weights = (weight for group in groups for weight in group["params"])
        return next((weight for weight in weights if weight.grad is not None), None)


def read_loss(tensor: Tensor) -> Loss:
    """The loss that a backward pass starts from, as it was before a gradient scaler."""
    node: Any = tensor.grad_fn
    unscaled = None if node is None else node.metadata.get(SCALED)
    value = tensor.detach() if unscaled is None else unscaled
    if value.ndim:
        value = value.mean()
    if unscaled is not None:
        node = node.next_functions[0][0]
    is_scaled, divisor = unscaled is not None, _divided_by(node)
    return Loss(tensor, value, node=node, is_scaled=is_scaled, divisor=divisor)


def mark_scaled(scaled: Tensor, loss: Tensor) -> None:
    """Note on a gradient scaler's output what it has scaled."""
    if scaled.grad_fn is not None:
        metadata: Any = scaled.grad_fn.metadata
        metadata[SCALED] = loss.detach()
        mark_rescaled(scaled)


def reaching(loss: Tensor, trainings: list[Training]) -> list[Training]:
    """The trainings whose weights are leaves of the loss's graph; all where it is too large.

    Where no optimizer holds any of the leaves, those whose model does: it may have been given other
    weights since its optimizer was made.
    """
    if len(trainings) < 2:
        return trainings
    hits = reaches(loss, [training.weight_ids() for training in trainings])
    if not any(hits):
        models = [{id(weight) for weight in one.model.parameters()} for one in trainings]
        hits = reaches(loss, models)
    return [training for training, hit in zip(trainings, hits, strict=True) if hit]


def _loss_of_update(losses: list[Loss]) -> Tensor:
    """The loss of the update, with the graph of its last backward pass.

    A closure is called at several points; the loss of the update is the first. Batches whose losses
    were divided by their number add up; others are averaged.
    """
    if losses[-1].in_step:
        losses = [one for one in losses if one.in_step][:1]
    last, number = losses[-1], len(losses)
    if number == 1 and not last.is_scaled and last.tensor.ndim == 0:
        return last.tensor
    values = torch.stack([one.value.to(last.value) for one in losses])
    is_divided = number > 1 and all(abs(one.divisor - number) < 1e-3 for one in losses)
    if is_divided:
        last.node.metadata[RESCALED] = True
    value = values.sum() if is_divided else values.mean()
    return with_value(last.tensor, value) if last.tensor.requires_grad else value


def _divided_by(node: Any) -> float:
    """The number by which a graph's last operation divides; 1 where it does something else."""
    if node is None or not node.name().startswith(("Div", "Mul")):
        return 1.0
    factor = getattr(node, "_saved_other", None)  # freed by the backward pass
    if not isinstance(factor, Tensor) or factor.is_cuda or factor.numel() != 1:
        return 1.0
    number = float(factor)
    if node.name().startswith("Div"):
        return number
    return 1 / number if number else 1.0
