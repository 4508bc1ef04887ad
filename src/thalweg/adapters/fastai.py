"""A callback for fastai: `Learner(dls, model, cbs=DiagnoseCallback())`."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from thalweg.adapters.foreign import ForeignOptimizer
from thalweg.adapters.session import Session, Sink, guarded, library_missing
from thalweg.adapters.traceless import Traceless
from thalweg.diagnosis import Diagnosis
from thalweg.observe.loss_graph import mark_rescaled

try:
    from fastai.learner import Callback, Recorder
except ModuleNotFoundError as error:
    raise library_missing("fastai", error) from error


class DiagnoseCallback(Callback):
    """Watches a fit and diagnoses it at its end. The learning-rate finder is not watched.

    `sink` is given the page (None: nothing is printed); `diagnosis` keeps it. With `read_data`, the
    first batches of both loaders are looked at as well, without a trace. What only you can tell,
    each thing optional, goes to `thalweg.watch`: task, num_classes, loss_fn, train, val.
    """

    order = Recorder.order + 1  # after an epoch's scores are known, and after what clips or scales
    remove_on_fetch = True

    def __init__(self, *, sink: Sink | None = print, read_data: bool = True, **about: Any) -> None:
        super().__init__()
        self.session_ = Session(sink=sink, about=about)
        self.read_data, self.stepping = read_data, False
        self.stands_for: ForeignOptimizer | None = None

    @property
    def diagnosis(self) -> Diagnosis | None:
        """Of the last fit; None before its end."""
        return self.session_.diagnosis

    @guarded
    def before_fit(self) -> None:
        """Begin to watch."""
        learn = self.learn
        self.run = not (hasattr(learn, "lr_finder") or hasattr(self, "gather_preds"))
        if not self.run:
            return
        self.stands_for = ForeignOptimizer(lambda: _groups(learn.opt))
        read = self.read_data and getattr(learn.dls, "n_inp", 1) == 1
        train, val = [_looked_at(loader) if read else None for loader in _two(learn.dls)]
        self.session_.begin(learn.model, [self.stands_for], train=train, val=val)

    @guarded
    def after_loss(self) -> None:
        """The loss as it was before an accumulation or a scaler changed it: fastai's own copy."""
        learn = self.learn
        if not self.training or not isinstance(learn.loss, Tensor) or not learn.yb:
            return
        mark_rescaled(learn.loss)
        inputs = learn.xb[0] if len(learn.xb) == 1 else None
        self.session_.loss(learn.loss, batch=(_plain(inputs), _plain(learn.yb[0])))

    @guarded
    def before_step(self) -> None:
        """Called where an update will be made: not while accumulating, not after an overflow."""
        if self.stands_for is not None:
            self.stepping = True
            self.stands_for.before_step()

    @guarded
    def after_step(self) -> None:
        """The update was made."""
        if self.stands_for is not None and self.stepping:
            self.stepping = False
            self.stands_for.after_step()
            self.session_.updated()

    def after_cancel_step(self) -> None:
        """Somebody called it off."""
        self.stepping = False

    @guarded
    def after_epoch(self) -> None:
        """The recorder's row; metrics are of the validation split unless they say otherwise."""
        names = list(self.learn.recorder.metric_names)[1:]
        self.session_.log(dict(zip(names, self.learn.final_record, strict=False)), split="val")

    @guarded
    def after_fit(self) -> None:
        """Diagnose."""
        self.session_.end()
        self.stands_for = None


def _groups(opt: Any) -> list[dict[str, Any]]:
    """torch's param_groups of a fastai optimizer."""
    return [
        {"params": list(weights), "lr": hyper["lr"], "weight_decay": hyper.get("wd") or 0.0}
        for weights, hyper in zip(opt.param_lists, opt.hypers, strict=True)
    ]


def _two(dls: Any) -> tuple[Any, Any]:
    """The training and the validation loader, if there is one."""
    loaders = list(dls.loaders)
    return loaders[0], loaders[1] if len(loaders) > 1 else None


def _looked_at(loader: Any) -> Traceless | None:
    if loader is None:
        return None
    return Traceless(lambda: _in_this_process(loader), loader, _pair)


def _in_this_process(loader: Any) -> Iterator[Any]:
    with loader.fake_l.no_multiproc():
        yield from loader


def _pair(batch: Any) -> tuple[Tensor | None, Tensor | None]:
    return _plain(batch[0]), _plain(batch[1]) if len(batch) > 1 else None


def _plain(value: Any) -> Tensor | None:
    """Without fastai's tensor types, whose arithmetic asks for their own kind."""
    return value.as_subclass(Tensor) if isinstance(value, Tensor) else None
