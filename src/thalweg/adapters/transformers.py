"""A callback for Hugging Face's Trainer: `Trainer(…, callbacks=[DiagnoseCallback()])`."""

from collections.abc import Mapping
from functools import wraps
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from thalweg.adapters.session import Session, Sink, guarded, library_missing
from thalweg.adapters.traceless import Later, traceless
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

    `sink` is given the page (None: nothing is printed); `diagnosis` keeps it. With `read_data`, the
    first batches of both loaders are looked at as well, without a trace. What only you can tell,
    each thing optional, goes to `thalweg.watch`: task, num_classes, loss_fn, train, val.

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
        **about: Any,
    ) -> None:
        self.session_ = Session(sink=sink, about=about)
        self._read_data, self._trainer = read_data, trainer
        self._handle: RemovableHandle | None = None
        self._val = Later()
        self._overheard = False  # whether any loss was seen
        self._shares = False  # whether an update's losses are to be summed

    @property
    def diagnosis(self) -> Diagnosis | None:
        """Of the last training; None before its end."""
        return self.session_.diagnosis

    @guarded
    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Begin to watch."""
        self._let_go()
        model, self._overheard = given["model"], False
        train, self._val = traceless(given.get("train_dataloader")), Later()
        data = {"train": train, "val": self._val} if self._read_data else {}
        self.session_.begin(model, [given["optimizer"]], **data)
        if self._trainer is None:
            hook = Hook(self._after_forward, lambda _, error: self.session_.broke(str(error)))
            self._handle = model.register_forward_hook(hook, with_kwargs=True)
        else:
            self._listen(self._trainer)

    @guarded
    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The update was made."""
        self.session_.updated(summed=self._shares)

    @guarded
    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """What was measured on the validation split, by name; its loader is known only now."""
        self._val.batches = traceless(given.get("eval_dataloader")) or ()
        self.session_.log(given.get("metrics") or {})

    @guarded
    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Diagnose."""
        self._let_go()
        self.session_.end(
            tell=state.is_world_process_zero, note="" if self._overheard else UNSEEN_LOSS
        )

    def _after_forward(self, model: nn.Module, _: Any, keywords: Any, output: Any) -> None:
        loss = _loss_of(output)
        if model.training and loss is not None:
            self._shares = keywords.get("num_items_in_batch") is not None
            self._note(loss)

    def _listen(self, trainer: Any) -> None:
        """See what the trainer's own compute_loss gives back."""
        compute_loss = trainer.compute_loss

        @wraps(compute_loss)
        def overheard(model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            result = compute_loss(model, inputs, *rest, **named)
            loss = result[0] if isinstance(result, tuple) else result
            if isinstance(loss, Tensor) and loss.requires_grad:
                self._shares = _normalised(trainer, named.get("num_items_in_batch"))
                self._note(loss)
            return result

        trainer.compute_loss = overheard

    @guarded
    def _note(self, loss: Tensor) -> None:
        self._overheard = True
        self.session_.loss(loss)

    def _let_go(self) -> None:
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


def _normalised(trainer: Any, num_items: Any) -> bool:
    """Whether the losses of an update's batches are shares of one mean; else each is a mean."""
    told = getattr(trainer, "loss_is_scaled_for_ga", None)
    if told is not None:
        return bool(told)
    by_model = getattr(trainer, "model_accepts_loss_kwargs", False) and num_items is not None
    return bool(by_model or getattr(trainer, "compute_loss_func", None) is not None)
