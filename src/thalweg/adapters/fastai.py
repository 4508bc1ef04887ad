"""A callback for fastai: `Learner(dls, model, cbs=DiagnoseCallback())`."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from thalweg.adapters.callback_watcher import CallbackWatcher, Sink, guarded, library_missing
from thalweg.adapters.foreign_optimizer import ForeignOptimizer
from thalweg.adapters.traceless_batches import TracelessBatches
from thalweg.diagnosis import Diagnosis
from thalweg.observe.data_sample import Pair
from thalweg.observe.loss_graph import mark_rescaled

try:
    from fastai.learner import Callback, Recorder
except ModuleNotFoundError as error:
    raise library_missing("fastai", error) from error


class DiagnoseCallback(Callback):
    """Watches a fit and diagnoses it at its end. The learning-rate finder is not watched.

    `sink` receives the page (None: nothing is printed); `diagnosis` keeps it. With `read_data`, the
    first batches of both loaders are read as well, without a trace. Further options, all optional,
    go to `thalweg.watch`: task, num_classes, loss_fn, train, val.
    """

    order = Recorder.order + 1  # after the recorder's scores, and after clipping and scaling
    remove_on_fetch = True

    def __init__(
        self, *, sink: Sink | None = print, read_data: bool = True, **options: Any
    ) -> None:
        super().__init__()
        self.watcher_ = CallbackWatcher(sink=sink, options=options)
        self.read_data, self.stepping = read_data, False
        self.foreign_optimizer: ForeignOptimizer | None = None

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The diagnosis of the last fit; None before its end."""
        return self.watcher_.diagnosis

    @guarded
    def before_fit(self) -> None:
        """Start to watch."""
        learn = self.learn
        self.run = not (hasattr(learn, "lr_finder") or hasattr(self, "gather_preds"))
        if not self.run:
            return
        self.foreign_optimizer = ForeignOptimizer(lambda: _groups(learn.opt))
        read = self.read_data and getattr(learn.dls, "n_inp", 1) == 1
        train, val = [_batches(loader) if read else None for loader in _train_and_val(learn.dls)]
        self.watcher_.begin(learn.model, [self.foreign_optimizer], train=train, val=val)

    @guarded
    def after_loss(self) -> None:
        """Record fastai's own copy of the loss, which neither accumulation nor a scaler changes."""
        learn = self.learn
        if not self.training or not isinstance(learn.loss, Tensor) or not learn.yb:
            return
        mark_rescaled(learn.loss)
        inputs = learn.xb[0] if len(learn.xb) == 1 else None
        self.watcher_.record_loss(learn.loss, batch=(_plain(inputs), _plain(learn.yb[0])))

    @guarded
    def before_step(self) -> None:
        """Run before each update: not while accumulating, not after an overflow."""
        if self.foreign_optimizer is not None:
            self.stepping = True
            self.foreign_optimizer.before_step()

    @guarded
    def after_step(self) -> None:
        """Record the update."""
        if self.foreign_optimizer is not None and self.stepping:
            self.stepping = False
            self.foreign_optimizer.after_step()
            self.watcher_.record_update()

    def after_cancel_step(self) -> None:
        """Forget an update that another callback cancelled."""
        self.stepping = False

    @guarded
    def after_epoch(self) -> None:
        """Record the recorder's row; metrics are of the validation split unless named otherwise."""
        names = list(self.learn.recorder.metric_names)[1:]
        self.watcher_.log(dict(zip(names, self.learn.final_record, strict=False)), split="val")

    @guarded
    def after_fit(self) -> None:
        """Diagnose."""
        self.watcher_.end()
        self.foreign_optimizer = None


def _groups(opt: Any) -> list[dict[str, Any]]:
    """The groups of a fastai optimizer as torch's param_groups."""
    return [
        {"params": list(weights), "lr": hyper["lr"], "weight_decay": hyper.get("wd") or 0.0}
        for weights, hyper in zip(opt.param_lists, opt.hypers, strict=True)
    ]


def _train_and_val(dls: Any) -> tuple[Any, Any]:
    """The training loader, and the validation loader if there is one."""
    loaders = list(dls.loaders)
    return loaders[0], loaders[1] if len(loaders) > 1 else None


def _batches(loader: Any) -> TracelessBatches | None:
    if loader is None:
        return None
    return TracelessBatches(lambda: _in_this_process(loader), loader, _pair)


def _in_this_process(loader: Any) -> Iterator[Any]:
    with loader.fake_l.no_multiproc():
        yield from loader


def _pair(batch: Any) -> Pair:
    return _plain(batch[0]), _plain(batch[1]) if len(batch) > 1 else None


def _plain(value: Any) -> Tensor | None:
    """A plain tensor: fastai's own types refuse arithmetic with others."""
    return value.as_subclass(Tensor) if isinstance(value, Tensor) else None
