"""A callback for Hugging Face's Trainer: `Trainer(…, callbacks=[DiagnoseCallback()])`."""

from collections.abc import Mapping
from functools import wraps
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from thalweg.adapters.callback_watcher import CallbackWatcher, Sink, guarded, library_missing
from thalweg.adapters.traceless_batches import DeferredBatches, traceless_batches
from thalweg.diagnosis import Diagnosis
from thalweg.observe.guard import Hook

try:
    from transformers import TrainerCallback
except ModuleNotFoundError as error:
    raise library_missing("transformers", error) from error

UNSEEN_LOSS = (
    "The loss was not seen, since the model does not compute it. Name the trainer:\n"
    "trainer.add_callback(DiagnoseCallback(trainer=trainer))"
)


class DiagnoseCallback(TrainerCallback):
    """Watches `trainer.train()` and diagnoses it at its end.

    `sink` receives the page (None: nothing is printed); `diagnosis` keeps it. With `read_data`, the
    first batches of both loaders are read as well, without a trace. Further options, all optional,
    go to `thalweg.watch`: task, num_classes, loss_fn, train, val.

    A Trainer shows its callbacks the model's loss only. Where the loss is your own (`compute_loss`
    overridden, `compute_loss_func`, label smoothing), name the trainer:
    `trainer.add_callback(DiagnoseCallback(trainer=trainer))`.
    """

    def __init__(
        self,
        *,
        trainer: Any = None,
        sink: Sink | None = print,
        read_data: bool = True,
        **options: Any,
    ) -> None:
        self.watcher_ = CallbackWatcher(sink=sink, options=options)
        self._read_data, self._trainer = read_data, trainer
        self._handle: RemovableHandle | None = None
        self._val = DeferredBatches()
        self._has_loss = False  # of this training
        self._sums_losses = False  # an update's losses are shares of one mean

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The diagnosis of the last training; None before its end."""
        return self.watcher_.diagnosis

    @guarded
    def on_train_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Start to watch."""
        self._detach()
        model, self._has_loss = named["model"], False
        train = traceless_batches(named.get("train_dataloader"))
        self._val = DeferredBatches()
        data = {"train": train, "val": self._val} if self._read_data else {}
        self.watcher_.begin(model, [named["optimizer"]], **data)
        if self._trainer is None:
            hook = Hook(self._after_forward, self._report_failure)
            self._handle = model.register_forward_hook(hook, with_kwargs=True)
        else:
            self._wrap_compute_loss(self._trainer)

    @guarded
    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Record the update."""
        self.watcher_.record_update(summed=self._sums_losses)

    @guarded
    def on_evaluate(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Record the scores of the validation split by name; its loader is known only now."""
        self._val.batches = traceless_batches(named.get("eval_dataloader")) or ()
        self.watcher_.log(named.get("metrics") or {})

    @guarded
    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Diagnose."""
        self._detach()
        self.watcher_.end(
            prints=state.is_world_process_zero, note="" if self._has_loss else UNSEEN_LOSS
        )

    def _report_failure(self, _part: str, error: Exception) -> None:
        self.watcher_.report_failure(str(error))

    def _after_forward(self, model: nn.Module, _: Any, keywords: Any, output: Any) -> None:
        loss = _loss_of(output)
        if model.training and loss is not None:
            self._sums_losses = keywords.get("num_items_in_batch") is not None
            self._record_loss(loss)

    def _wrap_compute_loss(self, trainer: Any) -> None:
        """Record the losses that the trainer's own compute_loss returns."""
        compute_loss = trainer.compute_loss

        @wraps(compute_loss)
        def compute_and_record(model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            returned = compute_loss(model, inputs, *rest, **named)
            loss = returned[0] if isinstance(returned, tuple) else returned
            if isinstance(loss, Tensor) and loss.requires_grad:
                self._sums_losses = _are_shares(trainer, named.get("num_items_in_batch"))
                self._record_loss(loss)
            return returned

        trainer.compute_loss = compute_and_record

    @guarded
    def _record_loss(self, loss: Tensor) -> None:
        self._has_loss = True
        self.watcher_.record_loss(loss)

    def _detach(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        if self._trainer is not None:
            vars(self._trainer).pop("compute_loss", None)


def _loss_of(output: Any) -> Tensor | None:
    """The loss among a model's outputs, where the Trainer looks for it."""
    if isinstance(output, Mapping):
        loss = output.get("loss")
    else:
        loss = output[0] if isinstance(output, tuple) and output else None
    scalar = isinstance(loss, Tensor) and loss.ndim == 0 and loss.requires_grad
    return loss if scalar else None


def _are_shares(trainer: Any, num_items: Any) -> bool:
    """True if the losses of an update's batches are shares of one mean; else each is a mean."""
    scaled = getattr(trainer, "loss_is_scaled_for_ga", None)
    if scaled is not None:
        return bool(scaled)
    by_model = getattr(trainer, "model_accepts_loss_kwargs", False) and num_items is not None
    return bool(by_model or getattr(trainer, "compute_loss_func", None) is not None)
