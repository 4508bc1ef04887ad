"""The callback in real fits of fastai."""

import pickle
import random

import pytest
import torch
from adapters.digits import (
    BATCH,
    EPOCHS,
    RULE_OF,
    assert_found,
    assert_sound,
    assert_unscaled,
    library,
    lr_of,
    network,
    noting,
    same_weights,
    train_set,
    val_set,
)
from torch import nn

library("fastai.callback.all", "fastai")
from fastai.callback.all import (  # noqa: E402
    GradientAccumulation,
    GradientClip,
    MixedPrecision,
)
from fastai.data.core import DataLoaders  # noqa: E402
from fastai.data.load import DataLoader  # noqa: E402
from fastai.learner import Learner  # noqa: E402
from fastai.losses import CrossEntropyLossFlat  # noqa: E402
from fastai.metrics import accuracy, error_rate  # noqa: E402
from fastai.optimizer import OptimWrapper  # noqa: E402

from thalweg.adapters.fastai import DiagnoseCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own advice


def learner(fault="", callback=None, others=(), **options):
    unshuffled = fault == "unshuffled"
    random.seed(0)  # of which each loader of fastai draws a seed of its own
    train = DataLoader(train_set(by_class=unshuffled), bs=BATCH, shuffle=not unshuffled)
    dls = DataLoaders(train, DataLoader(val_set(), bs=120), device="cpu")
    settings = {"loss_func": CrossEntropyLossFlat(), "metrics": [accuracy, error_rate]} | options
    cbs = [callback, *others] if callback else list(others)
    learn = Learner(dls, network(fault), lr=lr_of(fault), cbs=cbs, **settings)
    learn.remove_cb(learn.progress) if hasattr(learn, "progress") else None
    return learn


def fit(learn, epochs=EPOCHS):
    torch.manual_seed(1)
    with learn.no_logging(), learn.no_bar():
        learn.fit(epochs)
    return learn


def diagnosed(fault="", epochs=EPOCHS, **options):
    callback = DiagnoseCallback(sink=None)
    fit(learner(fault, callback, **options), epochs)
    return callback.diagnosis


def test_a_sound_fit_raises_no_alarm():
    assert_sound(diagnosed())


@pytest.mark.parametrize("fault", ["lr", "unshuffled", "squashed"])
def test_a_planted_fault_is_named(fault):
    assert_found(diagnosed(fault), RULE_OF[fault])


def test_weights_that_nobody_trains_are_named():
    def only_the_first(params, lr):
        return OptimWrapper(list(params)[:2], torch.optim.Adam, lr=lr)

    assert_found(diagnosed(opt_func=only_the_first), "weights-not-in-optimizer")


def test_a_summed_loss_is_named_through_fastais_copy_of_it():
    found = {f.rule for f in diagnosed(loss_func=nn.CrossEntropyLoss(reduction="sum")).findings}
    assert "loss-summed-over-batch" in found


OTHERS = {
    "plain": lambda: (),
    "accumulated": lambda: (GradientAccumulation(4 * BATCH), GradientClip(5.0)),
    "mixed": lambda: (MixedPrecision("bf16"),),
}


@pytest.mark.parametrize("others", OTHERS)
def test_weights_are_those_of_an_unwatched_fit(others):
    watched = fit(learner(callback=DiagnoseCallback(sink=None), others=OTHERS[others]()))
    assert same_weights(watched.model, fit(learner(others=OTHERS[others]())).model)


@pytest.mark.parametrize("others", ["accumulated", "mixed"])
def test_neither_accumulation_nor_mixed_precision_is_an_alarm(others):
    assert_sound(diagnosed(epochs=24 if others == "accumulated" else 6, others=OTHERS[others]()))


class HalfPrecision(MixedPrecision):
    """fastai's own, on a processor: as on a GPU, with a scale that is too large at first."""

    def before_fit(self):
        super().before_fit()
        self.autocast = torch.autocast("cpu", torch.float16)
        self.learn.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**34)


def test_a_scaler_is_no_alarm_and_gradients_are_seen_without_it():
    fits = {}
    for name, others in {"plain": (), "scaled": (HalfPrecision(),)}.items():
        callback, histories = noting(DiagnoseCallback(sink=None))
        fit(learner("", callback, others))
        (fits[name],) = histories
        assert_sound(callback.diagnosis)
    assert_unscaled(fits["scaled"], fits["plain"])


def test_one_cycle_and_torchs_own_optimizers_are_no_alarm():
    callback = DiagnoseCallback(sink=None)

    def adam(params, lr):
        return OptimWrapper(params, torch.optim.Adam, lr=lr)

    learn = learner(callback=callback, opt_func=adam)
    torch.manual_seed(1)
    with learn.no_logging(), learn.no_bar():
        learn.fit_one_cycle(EPOCHS, 5e-3)
    assert_sound(callback.diagnosis)


def test_the_learning_rate_finder_is_left_alone():
    pages = []
    callback = DiagnoseCallback(sink=pages.append)
    learn = learner(callback=callback)
    with learn.no_logging(), learn.no_bar():
        learn.lr_find(show_plot=False)
    assert pages == []
    fit(learn)
    assert_sound(callback.diagnosis)
    assert pages == [str(callback.diagnosis)]


def test_a_callback_can_be_pickled_after_a_fit():
    callback = DiagnoseCallback(sink=None)
    fit(learner(callback=callback), epochs=1)
    assert str(pickle.loads(pickle.dumps(callback)).diagnosis) == str(callback.diagnosis)


def test_the_page_is_printed_unless_told_otherwise(capsys):
    fit(learner("lr", DiagnoseCallback()), epochs=2)
    assert "Diagnosis: learning-rate-too-high" in capsys.readouterr().out
