"""Optimizers of every make, and loops that update when they please: no false alarm, no change."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW

from thalweg.diagnosis import diagnose
from thalweg.errors import UsageError
from thalweg.observe import watch
from thalweg.record.quantities import (
    GRADIENT_AT_UPDATE,
    GRADIENT_NORM,
    INSTRUMENT_FAILED,
    LEARNING_RATE,
    LEFTOVER_GRADIENT,
    SCALE_INVARIANT,
    UPDATE_RATIO,
)

STEPS = 24


class Lookahead:
    """A wrapper that is no torch optimizer: slow weights follow the fast ones."""

    def __init__(self, inner):
        self.inner, self.count = inner, 0
        self.slow = [w.detach().clone() for group in inner.param_groups for w in group["params"]]

    @property
    def param_groups(self):
        return self.inner.param_groups

    def zero_grad(self):
        self.inner.zero_grad()

    def step(self):
        self.inner.step()
        self.count += 1
        if self.count % 5 == 0:
            weights = [w for group in self.param_groups for w in group["params"]]
            with torch.no_grad():
                for slow, weight in zip(self.slow, weights, strict=True):
                    weight.copy_(slow.lerp_(weight, 0.5))


class ByHand:
    """Has groups and a step, and neither hooks nor an optimizer inside."""

    def __init__(self, weights):
        self.param_groups = [{"params": list(weights)}]

    def zero_grad(self):
        for weight in self.param_groups[0]["params"]:
            weight.grad = None

    def step(self):
        with torch.no_grad():
            for weight in self.param_groups[0]["params"]:
                weight.sub_(0.1 * weight.grad)


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimisation: two gradients an update; its own `step` is never called."""

    def __init__(self, weights):
        super().__init__(weights, {"rho": 0.05})
        self.base_optimizer = SGD(self.param_groups, lr=0.1)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def climb(self):
        for weight in self.param_groups[0]["params"]:
            self.state[weight]["old"] = weight.clone()
            weight.add_(weight.grad, alpha=0.05)
        self.zero_grad()

    @torch.no_grad()
    def descend(self):
        for weight in self.param_groups[0]["params"]:
            weight.copy_(self.state[weight]["old"])
        self.base_optimizer.step()
        self.zero_grad()

    def step(self, closure=None):
        raise AssertionError("never called")


class NoInit(torch.optim.Optimizer):
    """Delegates everything, and has never called Optimizer.__init__, as accelerate's wrapper."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(vars(self)["inner"], name)

    def zero_grad(self):  # type: ignore[override]
        self.inner.zero_grad()

    def step(self):  # type: ignore[override]
        self.inner.step()


def usual(optimizer, loss_of):
    optimizer.zero_grad()
    loss = loss_of()
    loss.backward()
    optimizer.step()
    return loss


def cleared_at_once(optimizer, loss_of):
    loss = usual(optimizer, loss_of)
    optimizer.zero_grad()
    return loss


def sharpness_aware(optimizer, loss_of):
    loss = loss_of()
    loss.backward()
    optimizer.climb()
    loss_of().backward()
    optimizer.descend()
    return loss


def closure(optimizer, loss_of):
    def evaluate():
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss

    return optimizer.step(evaluate)


OPTIMIZERS = {
    "fused": (lambda w: Adam(w, lr=1e-2, fused=True), usual),
    "foreach": (lambda w: AdamW(w, lr=1e-2, foreach=True), cleared_at_once),
    "tensor lr": (lambda w: AdamW(w, lr=torch.tensor(1e-2), foreach=False), usual),
    "lbfgs": (lambda w: torch.optim.LBFGS(w, lr=0.1, max_iter=3), closure),
    "lookahead": (lambda w: Lookahead(SGD(w, lr=0.1)), usual),
    "by hand": (ByHand, usual),
    "by hand, cleared": (ByHand, cleared_at_once),
    "sam": (SAM, sharpness_aware),
    "no init": (lambda w: NoInit(SGD(w, lr=0.1)), usual),
}


def trained(make, update, *, watched=True, steps=STEPS):
    """The weights after some updates, and what the watcher has measured and found."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    optimizer = make(model.parameters())
    watcher = watch(model, optimizer, diagnose=diagnose) if watched else None
    for _ in range(steps):
        inputs = torch.randn(16, 8)
        loss = update(
            optimizer, lambda inputs=inputs: F.cross_entropy(model(inputs), inputs[:, :4].argmax(1))
        )
        if watcher:
            watcher.step(loss)
    weights = [weight.detach().clone() for weight in model.parameters()]
    if watcher is None:
        return weights, None, None
    diagnosis = watcher.diagnose()
    watcher.close()
    return weights, watcher.history, diagnosis


def errors(diagnosis):
    return [finding.rule for finding in diagnosis.findings if finding.severity == "error"]


@pytest.mark.parametrize(("make", "update"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_optimizer_is_watched_without_a_change_or_a_false_alarm(make, update):
    expected, _, _ = trained(make, update, watched=False)
    weights, history, diagnosis = trained(make, update)
    assert all(torch.equal(a, b) for a, b in zip(weights, expected, strict=True))
    assert not errors(diagnosis)
    assert not history.by_place(INSTRUMENT_FAILED)
    assert set(history.by_place(UPDATE_RATIO)) == {"0.weight", "2.weight"}
    assert "gradient-never-arrives" in diagnosis.passed
    if (make, update) != OPTIMIZERS["by hand, cleared"]:
        assert set(history.by_place(GRADIENT_NORM)) == {
            "0.weight", "0.bias", "2.weight", "2.bias"
        }  # fmt: skip


def test_an_update_without_hooks_is_what_changed_in_the_step():
    _, plain, _ = trained(lambda w: SGD(w, lr=0.1), usual)
    _, by_hand, _ = trained(ByHand, usual)
    for quantity in (UPDATE_RATIO, GRADIENT_NORM):
        for place, series in plain.by_place(quantity).items():
            assert by_hand.by_place(quantity)[place] == pytest.approx(series)
    assert not by_hand.by_place(LEARNING_RATE)
    assert not by_hand.by_place(GRADIENT_AT_UPDATE)  # it may have been cleared since


def test_an_optimizer_inside_the_backward_pass():
    def make(weights):
        optimizers = {weight: SGD([weight], lr=0.1) for weight in weights}

        def update(weight):
            optimizers[weight].step()
            optimizers[weight].zero_grad()

        for weight in optimizers:
            weight.register_post_accumulate_grad_hook(update)
        return optimizers

    def backward_only(_, loss_of):
        loss = loss_of()
        loss.backward()
        return loss

    expected, _, _ = trained(make, backward_only, watched=False)
    weights, history, diagnosis = trained(make, backward_only)
    assert all(torch.equal(a, b) for a, b in zip(weights, expected, strict=True))
    assert not errors(diagnosis)
    assert set(history.by_place(UPDATE_RATIO)) == {"0.weight", "2.weight"}


@pytest.mark.parametrize("accumulate", [2, 3, 4])
def test_steps_counted_per_batch_while_updates_gather_several(accumulate):
    count = 0

    def update(optimizer, loss_of):
        nonlocal count
        loss = loss_of() / accumulate
        loss.backward()
        count += 1
        if count % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss

    _, history, diagnosis = trained(lambda w: SGD(w, lr=0.1), update, steps=60)
    assert not errors(diagnosis)
    steps = {step for series in history.by_place(GRADIENT_NORM).values() for step in series}
    assert len(steps) >= 3
    assert all((step + 1) % accumulate == 0 for step in steps)
    assert not history.by_place(LEFTOVER_GRADIENT)  # what is left is gathered on purpose


@pytest.mark.parametrize(
    "order",
    [
        lambda o, loss: (loss.backward(), o.zero_grad(), o.step()),
        lambda o, loss: (o.zero_grad(), o.step(), loss.backward(), o.zero_grad()),
        lambda o, loss: (loss.backward(), o.zero_grad(set_to_none=False), o.step()),
    ],
    ids=["cleared before the step", "stepped before the backward", "filled with zeros"],
)
def test_a_gradient_that_is_missing_at_every_update_is_still_found(order):
    def update(optimizer, loss_of):
        loss = loss_of()
        order(optimizer, loss)
        return loss

    _, _, diagnosis = trained(lambda w: SGD(w, lr=0.1), update)
    assert errors(diagnosis) == ["gradient-never-arrives"]


def test_collections_of_optimizers():
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 4))
    first, second = (SGD(layer.parameters(), lr=0.1) for layer in model)
    for optimizers in ({"a": first, "b": second}, [first, second], (o for o in (first, second))):
        with watch(model, optimizers) as watcher:
            watcher.step(1.0)
        assert set(watcher.history.by_place(LEARNING_RATE)) == {"0", "1"}
    with pytest.raises(UsageError, match="no optimizer"):
        watch(model, 3)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [(Adam, 1.0), (torch.optim.RMSprop, 1.0), (partial(SGD, momentum=0.9), 0.0)],
)
def test_an_optimizer_that_divides_by_the_size_of_the_gradient_is_seen(optimizer, expected):
    model = nn.Linear(3, 2)
    own = optimizer(model.parameters(), lr=0.01)
    watcher = watch(model, own)
    for _ in range(3):
        loss = model(torch.randn(4, 3)).square().mean()
        own.zero_grad()
        loss.backward()
        own.step()
        watcher.step(loss)
    assert watcher.history.last(SCALE_INVARIANT) == expected
