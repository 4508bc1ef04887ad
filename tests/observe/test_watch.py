"""The watcher against independent truths, and its promise to change nothing."""

import copy
import pickle
from math import log
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.diagnosis import diagnose
from thalweg.errors import ThalwegWarning, UsageError
from thalweg.observe import watch
from thalweg.observe.instrument import Moment, instrument
from thalweg.record.quantities import (
    ACCURACY,
    CHANCE_LOSS,
    GRADIENT_NORM,
    GRADIENT_SCALE,
    INSTRUMENT_FAILED,
    LEARNING_RATE,
    LOSS,
    NUM_CLASSES,
    OPTIMIZERS,
    RETURN,
    UPDATE_RATIO,
    VAL_LOSS,
    VAL_SAMPLES,
)


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))


def batches(count, size=16):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        inputs = torch.randn(size, 8, generator=generator)
        yield inputs, inputs[:, :3].argmax(1)


def run(steps, *, watched=True, make=torch.optim.SGD, lr=0.1, **about):
    model = small_model()
    optimizer = make(model.parameters(), lr=lr)
    watcher = watch(model, optimizer, num_classes=3, **about) if watched else None
    for inputs, targets in batches(steps):
        logits = model(inputs)
        loss = nn.functional.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if watcher:
            watcher.step(loss, batch=(inputs, targets))
    return model, optimizer, watcher


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_weights_and_random_state_are_those_of_an_unwatched_run(make):
    states = []
    for watched in (False, True):
        np.random.seed(3)  # noqa: NPY002 (the state that a loop may draw from)
        model, _, watcher = run(130, watched=watched, make=make)
        if watcher:
            watcher.close()
        drawn = np.random.random(), torch.rand(1)  # noqa: NPY002
        states.append(([w.numpy(force=True).tobytes() for w in model.parameters()], drawn))
    assert states[0] == states[1]


def test_a_batch_in_a_dict_is_read_as_if_it_was_not_passed():
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = watch(model, optimizer)
    for inputs, targets in batches(3):
        loss = nn.functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss, batch={"pixels": inputs, "labels": targets})
    watcher.flush()
    assert INSTRUMENT_FAILED not in watcher.history
    assert GRADIENT_NORM in watcher.history


def test_losses_are_the_loops_own():
    _, _, watcher = run(70)
    assert list(watcher.history.series(LOSS)) == list(range(70))
    plain, expected = small_model(), []
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    for inputs, targets in batches(70):
        loss = nn.functional.cross_entropy(plain(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert list(watcher.history.series(LOSS).values()) == expected


def test_gradient_norm_and_update_ratio_against_their_definitions():
    model = small_model().eval()
    model_output = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = watch(model, optimizer)
    inputs, targets = next(batches(1))
    before = model[0].weight.detach().clone()
    loss = nn.functional.cross_entropy(model(inputs), targets)
    loss.backward()
    norm = float(model[0].weight.grad.norm())
    optimizer.step()
    watcher.step(loss)
    moved = float((model[0].weight.detach() - before).norm() / before.norm())
    history = watcher.history
    assert history.first(GRADIENT_NORM, "0.weight") == pytest.approx(norm, rel=1e-6)
    assert history.first(UPDATE_RATIO, "0.weight") == pytest.approx(moved, rel=1e-5)
    assert "0.bias" not in history.by_place(UPDATE_RATIO)
    assert history.first(LEARNING_RATE, "0") == 0.1
    expected = float((model_output(inputs).argmax(1) == targets).float().mean())
    assert history.first(ACCURACY) == pytest.approx(expected)  # targets from the gradient


def test_accuracy_comes_from_the_models_own_output():
    _, _, watcher = run(3)
    inputs, targets = next(batches(1))
    model = small_model()
    torch.manual_seed(0)
    small_model()  # draws what `run` drew before its first forward
    expected = float((model(inputs).argmax(1) == targets).float().mean())
    assert watcher.history.first(ACCURACY) == pytest.approx(expected)


def test_what_was_told_is_recorded():
    _, _, watcher = run(1)
    assert watcher.history.first(NUM_CLASSES) == 3
    assert watcher.history.first(CHANCE_LOSS) == log(3)
    watcher.log(val_loss=0.5, my_score=torch.tensor(2.0))
    assert watcher.history.series(VAL_LOSS) == {0: 0.5}


def test_learning_rate_changes_are_seen():
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 40, gamma=0.1)
    watcher = watch(model, optimizer)
    for inputs, targets in batches(100):
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        watcher.step(loss)
        scheduler.step()
    assert sorted(watcher.history.series(LEARNING_RATE, "0").values()) == pytest.approx(
        [0.01, 0.1, 1.0]
    )


def test_a_broken_instrument_is_recorded_and_the_others_go_on():
    @instrument(ACCURACY, when="loss")
    def broken(moment: Moment):
        raise ValueError("out of order")

    from thalweg.observe.instruments import INSTRUMENTS

    _, _, watcher = run(50, instruments=(broken, *INSTRUMENTS[:3]))
    reasons = list(watcher.history.by_place(INSTRUMENT_FAILED))
    assert reasons == ["accuracy: ValueError: out of order"]
    assert len(watcher.history.series(GRADIENT_NORM, "0.weight")) == 6


@pytest.mark.parametrize("loss", [torch.zeros(0), torch.ones(3), torch.ones(1, 1)])
def test_a_strange_loss_never_raises(loss):
    model = small_model()
    watcher = watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
    watcher.step(loss)
    watcher.step(torch.tensor(1.0))
    assert watcher.history.last(LOSS) == 1.0


def test_a_watched_model_can_be_copied_and_pickled():
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = watch(model, optimizer)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        twin(torch.randn(2, 8))  # its hooks do nothing
    copy.deepcopy(optimizer)
    watcher.close()
    assert not model._forward_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_several_optimizers():
    model = small_model()
    optimizers = [
        torch.optim.SGD(model[0].parameters(), lr=0.1),
        torch.optim.AdamW(model[3].parameters(), lr=0.01),
    ]
    with watch(model, optimizers) as watcher:
        inputs, targets = next(batches(1))
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        watcher.step(loss)
    assert set(watcher.history.by_place(UPDATE_RATIO)) == {"0.weight", "3.weight"}
    assert watcher.history.by_place(LEARNING_RATE) == {"0": {0: 0.1}, "1": {0: 0.01}}


def test_without_a_way_to_diagnose_it_says_so():
    _, _, watcher = run(1)
    with pytest.raises(UsageError, match=r"thalweg\.watch"):
        watcher.diagnose()


class Counted(list):
    """Batches that count how often they are read from the beginning."""

    read = 0

    def __iter__(self):
        self.read += 1
        return super().__iter__()


def test_loaders_are_read_once_and_when_training_is_over():
    train, val = Counted(batches(8)), Counted(batches(4))
    model, _, watcher = run(30, train=train, val=val)
    assert (train.read, val.read) == (0, 0)
    assert VAL_SAMPLES not in watcher.history
    watcher.close()
    assert watcher.history.first(VAL_SAMPLES) == 4 * 16
    watcher.close()
    assert (train.read, val.read) == (1, 2)  # the second time to see that it is the same
    assert not model._forward_hooks


def test_an_interrupted_loop_does_not_wait_for_its_loaders():
    train = Counted(batches(8))
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(KeyboardInterrupt), watch(model, optimizer, train=train):
        raise KeyboardInterrupt
    assert not train.read
    assert not model._forward_hooks


def test_a_loader_may_become_known_later():
    train, val = Counted(batches(8)), Counted(batches(4))
    _, _, watcher = run(10, train=train)
    watcher.set_loaders(None, val)
    watcher.close()
    assert (train.read, val.read) == (1, 2)
    assert watcher.history.first(VAL_SAMPLES) == 4 * 16


def test_two_watchers_that_step_by_turns_count_both_optimizers():
    players = [nn.Linear(2, 1) for _ in range(2)]
    optimizers = [torch.optim.SGD(player.parameters(), 0.1) for player in players]
    watchers = [watch(*pair) for pair in zip(players, optimizers, strict=True)]
    for _ in range(8):
        for player, optimizer, watcher in zip(players, optimizers, watchers, strict=True):
            loss = player(torch.ones(4, 2)).square().mean()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
    assert [watcher.history.last(OPTIMIZERS) for watcher in watchers] == [2, 2]


def test_a_watcher_that_is_idle_is_no_player():
    idle, busy = (
        watch(model := nn.Linear(2, 1), torch.optim.SGD(model.parameters(), 0.1)) for _ in range(2)
    )
    for _ in range(8):
        busy.step(1.0)
    assert busy.history.last(OPTIMIZERS) == idle.history.last(OPTIMIZERS) == 1


@pytest.mark.parametrize("form", ["pair", "mapping", "inputs alone", "three"])
def test_any_form_of_a_batch_is_read(form):
    """A mapping, as Hugging Face's collators return, once broke every reading."""
    torch.manual_seed(0)
    model, inputs = nn.Linear(4, 3), torch.randn(32, 4)
    targets = inputs[:, :3].argmax(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = watch(model, optimizer)
    batch: Any = {
        "pair": (inputs, targets),
        "mapping": {"input_ids": inputs, "labels": targets},
        "inputs alone": inputs,
        "three": (inputs, targets, targets),
    }[form]
    for _ in range(12):
        loss = nn.functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss, batch=batch)
    watcher.close()
    assert not watcher.history.by_place(INSTRUMENT_FAILED)
    assert watcher.history.last(NUM_CLASSES) == 3


def test_returns_are_logged_as_such_whatever_they_are_called():
    model = nn.Linear(2, 1)
    watcher = watch(model, torch.optim.SGD(model.parameters(), 0.1))
    watcher.log(**{"mean_return": 1.0, "episode/reward": 2.0, "turned": 3.0, "val_loss": 4.0})
    assert set(watcher.history.by_place(RETURN)) == {"mean_return", "episode/reward"}
    watcher.close()


@pytest.mark.parametrize(
    ("divides", "passes_on", "expected"),
    [(1, 1, 1.0), (4, 1, 0.25), (4, 4, 0.5)],  # the loss as it is, divided by 4, both divided
)
def test_the_scale_of_a_squared_error_is_that_of_its_mean(divides, passes_on, expected):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    watcher = watch(model, optimizer)
    for _ in range(3):
        for _ in range(4):
            loss = nn.functional.mse_loss(model(torch.randn(8, 3)), torch.randn(8, 2))
            (loss / divides).backward()
        optimizer.step()
        optimizer.zero_grad()
        watcher.step(loss / passes_on)
    watcher.close()
    assert watcher.history.last(GRADIENT_SCALE) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("value", [None, "x", "3.0", 1j, torch.tensor(1j)], ids=repr)
def test_what_is_no_loss_is_warned_of_once_and_is_not_checked(value):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = watch(model, optimizer, diagnose=diagnose)

    def train():
        for inputs, targets in batches(30):
            loss = nn.functional.cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(value)

    with pytest.warns(ThalwegWarning, match=f"seen: {type(value).__name__}") as caught:
        train()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    diagnosis = watcher.diagnose()
    assert "step() takes the loss, a number or tensor" in diagnosis.not_checked["loss-not-finite"]
    assert GRADIENT_NORM in watcher.history
    assert LOSS not in watcher.history


def test_one_step_without_a_loss_moves_no_other():
    model = small_model()
    watcher = watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
    watcher.step(3.0)
    with pytest.warns(ThalwegWarning):
        watcher.step(None)
    watcher.step(1.0)
    assert watcher.history.series(LOSS) == {0: 3.0, 2: 1.0}


@pytest.mark.filterwarnings("error")
def test_a_warning_that_is_raised_does_not_reach_the_loop():
    model = small_model()
    watcher = watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
    watcher.step(None)
