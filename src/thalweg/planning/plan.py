"""Plan: a complete recipe and its data, with everything that a training derives from the two."""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import ceil

import torch
from torch import Tensor, nn

from thalweg.data import Batch, Batches, Dataset
from thalweg.data.batch import cut_batch
from thalweg.data.images.progressive_resizing import ProgressiveResizing, progressive_resizing
from thalweg.data.images.test_time_augmentation import AugmentedViews
from thalweg.data.mix import Mix
from thalweg.errors import UsageError
from thalweg.inference.saved_model import ModelSpec
from thalweg.models.pieces.fit_to_inputs import fit_to_inputs
from thalweg.models.pretrained.head import freeze_for_transfer
from thalweg.optim import OPTIMIZERS, SCHEDULES
from thalweg.optim.ema import WeightAverage
from thalweg.optim.muon import Muon
from thalweg.recipes.recipe import Recipe
from thalweg.tasks import TASKS, Task
from thalweg.tasks.penalties import penalty
from thalweg.training.deferred_loss_check import DeferredLossCheck
from thalweg.training.loop import Step, train
from thalweg.training.numerics import Numerics

Schedule = Callable[[float], float]


@dataclass(frozen=True, kw_only=True)  # without slots, so that what is derived can be cached
class Plan:
    """The complete description of a training: its recipe and its data."""

    recipe: Recipe
    defaults: Recipe  # what the data alone would have chosen
    dataset: Dataset
    user_keys: frozenset[str] = frozenset()  # recipe keys that the user set: nothing changes them
    notes: tuple[str, ...] = ()  # what was noticed in the data, and what was chosen since

    def edited(self, edits: Mapping[str, object], *, note: str) -> "Plan":
        """The plan with some recipe keys changed, and a note that says why."""
        return replace(self, recipe=self.recipe.edited(edits), notes=(*self.notes, note))

    @cached_property
    def spec(self) -> ModelSpec:
        """Everything that builds the network and describes its inputs and outputs."""
        facts, recipe = self.dataset.facts, self.recipe
        augmentation = recipe.evaluation.test_time_augmentation
        return ModelSpec(
            model=recipe.model.name,
            changes=dict(recipe.model.changes),
            input_shape=facts.input_shape,
            task=recipe.task.name,
            num_classes=facts.num_classes,
            target_mean=facts.target_mean,
            target_std=facts.target_std,
            class_names=self.dataset.class_names,
            preprocessing=self.dataset.preprocessing,
            label_rates=facts.label_rates,
            views=AugmentedViews(
                views="one" if augmentation == "none" else augmentation,
                sure=recipe.evaluation.confidence_threshold,
            ),
        )

    @cached_property
    def task(self) -> Task:
        """The task, with the loss that the recipe names. Raises: UsageError."""
        return self.spec.build_task(self.recipe.task)

    @property
    def numerics(self) -> Numerics:
        """The precision and memory order that steps are computed in."""
        return Numerics(**asdict(self.recipe.precision))

    @property
    def dtype(self) -> torch.dtype:
        """The type that matrix products are computed in."""
        return getattr(torch, self.recipe.precision.dtype)

    @property
    def drop_last(self) -> bool:
        """Leave a last batch of one sample out of the epoch: it has no variance to normalise by."""
        count, size = self.dataset.facts.counts["train"], self.recipe.batch.size
        return count > size and count % size == 1

    @property
    def steps_per_epoch(self) -> int:
        count, batch = self.dataset.facts.counts["train"], self.recipe.batch
        batches = count // batch.size if self.drop_last else ceil(count / batch.size)
        return max(1, batches // batch.accumulate)

    @property
    def steps(self) -> int:
        budget = self.recipe.budget
        return budget.steps or self.steps_per_epoch * budget.epochs

    @property
    def batches(self) -> int:
        """Backward passes of the whole training."""
        return self.steps * self.recipe.batch.accumulate

    def ends_with_validation(self, steps: int) -> bool:
        """Return whether a validation follows the last of so many steps."""
        return steps % self.validation_interval == 0 or steps == self.steps

    @property
    def validation_interval(self) -> int:
        """Updates from one validation to the next."""
        evaluation = self.recipe.evaluation
        return evaluation.steps or self.steps_per_epoch * evaluation.interval

    @cached_property
    def baselines(self) -> Mapping[str, float]:
        """The validation loss of simple models by name, where the task has some."""
        rows = (self.dataset.indices[split] for split in ("train", "val"))
        targets = (self.dataset.targets[part] for part in rows)
        return TASKS[self.recipe.task.name].baselines(self.spec, *targets)

    def build_model(self) -> nn.Module:
        """Build the network with fresh weights, which follow from the seed."""
        recipe = self.recipe
        torch.manual_seed(recipe.seed)
        model = self.numerics.prepare(self.spec.build().to(recipe.device))
        fit_to_inputs(model, recipe.model.changes, self._first_inputs)
        freeze_for_transfer(model, recipe.transfer.method, outputs=self.task.outputs)
        return model

    def build_optimizer(self, model: nn.Module, lr: float | None = None) -> torch.optim.Optimizer:
        """Build the recipe's optimizer for a model; `lr` replaces the recipe's peak rate."""
        recipe = self.recipe.optimizer
        optimizer = OPTIMIZERS[recipe.name](
            model.named_parameters(),
            lr=recipe.lr if lr is None else lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            **recipe.changes,
        )
        if isinstance(optimizer, Muon):  # its products cost as much as some layers'
            optimizer.dtype = self.dtype
        return optimizer

    def build_weight_average(self, model: nn.Module) -> WeightAverage | None:
        """Build the moving average of the model's weights; None where the recipe has none."""
        decay = self.recipe.optimizer.ema_decay
        return WeightAverage(model, decay=decay) if decay else None

    def penalty(self, model: nn.Module) -> Callable[[], Tensor] | None:
        """A function that computes λ · R of the model's present weights; None without a penalty."""
        task = self.recipe.task
        if task.penalty == "none":
            return None
        return penalty(model, task.penalty, weight=task.penalty_weight, beta=task.elastic_beta)

    @property
    def schedule(self) -> Schedule:
        """The factor of the learning rate, by progress from 0 to 1."""
        recipe = self.recipe.schedule
        return SCHEDULES[recipe.name](recipe.warmup, **recipe.changes)

    def updates(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        stream: Iterator[Batch],
        *,
        start: int = 0,
        deferred: DeferredLossCheck | None = None,
    ) -> Iterator[Step]:
        """Make the updates from number `start` to the end, yielding after each."""
        return train(
            model,
            stream,
            self.task.loss_fn,
            optimizer=optimizer,
            schedule=self.schedule,
            steps=self.steps,
            start=start,
            accumulate=self.recipe.batch.accumulate,
            max_grad_norm=self.recipe.optimizer.max_grad_norm,
            dtype=self.dtype,
            penalty=self.penalty(model),
            deferred=deferred,
        )

    def training_batches(self) -> Batches:
        """The training split, shuffled and augmented; not yet mixed."""
        recipe = self.recipe
        return Batches(
            self.dataset,
            "train",
            batch_size=recipe.batch.size,
            seed=recipe.seed,
            shuffle=True,
            drop_last=self.drop_last,
            augment=recipe.augment,
            channels_last=recipe.precision.channels_last,
            device=recipe.device,
        )

    def evaluation_batches(self, split: str) -> Batches:
        """A split in order, not augmented."""
        recipe = self.recipe
        return Batches(
            self.dataset,
            split,
            batch_size=2 * recipe.batch.size,  # no gradients to hold
            channels_last=recipe.precision.channels_last,
            device=recipe.device,
        )

    def training_stream(
        self,
        batches: Batches | None = None,
        *,
        start: int = 0,
        prefetch: bool = False,
        rank: int = 0,
        count: int = 1,
    ) -> Generator[Batch]:
        """Stream training batches from number `start` on, without end, mixed as the recipe says.

        `prefetch`, `rank` and `count` as in `Batches.stream`. The caller closes the stream.
        """
        recipe, source = self.recipe.augment, batches or self.training_batches()
        if not (recipe.mixup or recipe.cutmix):
            return source.stream(
                start, resize=self.resizing, prefetch=prefetch, rank=rank, count=count
            )
        classes = self.dataset.facts.num_classes
        mix = Mix(mixup=recipe.mixup, cutmix=recipe.cutmix, num_classes=classes)
        # A sample's partner may be in another rank's part: whole batches are mixed, then divided.
        whole = source.stream(start, resize=self.resizing, prefetch=prefetch)
        mixed = mix.stream(whole, seed=self.recipe.seed, start=start)
        return (cut_batch(batch, rank=rank, count=count) for batch in mixed)

    @property
    def resizing(self) -> ProgressiveResizing | None:
        """Progressive resizing of the first batches' images; None where the recipe has none."""
        shares = {
            size: float(share) for size, share in self.recipe.augment.progressive_resizing.items()
        }
        return progressive_resizing(shares, batches=self.batches)

    @property
    def first_full_size_batch(self) -> int:
        """The number of the first training batch whose images are not made smaller."""
        return self.resizing.batches if self.resizing else 0

    @property
    def first_final_size_batch(self) -> int:
        """The number of the first training batch whose images have the size of the last ones."""
        return self.resizing.last_change(self.batches) if self.resizing else 0

    def _first_inputs(self, least: int) -> Tensor:
        """Inputs of the first batches, augmented but not mixed: at least so many, or all.

        Raises: UsageError for inputs that are a group of tensors.
        """
        inputs: list[Tensor] = []
        for batch in self.training_batches():
            if not isinstance(batch.inputs, Tensor):
                raise UsageError(
                    "layers can be fitted to inputs of one tensor only",
                    seen=", ".join(batch.inputs),
                    fix="another model, or another model.changes.init",
                )
            inputs.append(batch.inputs)
            if sum(map(len, inputs)) >= least:
                break
        return torch.cat(inputs)
