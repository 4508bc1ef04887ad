"""Gradients that are cleared between the passes of one update are named; other loops pass."""

import pytest
import torch
from torch import nn

from thalweg.diagnosis import diagnose
from thalweg.observe import watch

NAME, MICRO = "accumulation-cleared", 4


class Loop:
    """A model, its optimizer and micro-batches; each loop below trains by one update."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)

    def loss(self, rows=16):
        inputs = torch.randn(rows, 6)
        return nn.functional.cross_entropy(self.model(inputs), inputs[:, :3].argmax(1))


def accumulate(loop, clear):
    for _ in range(MICRO):
        clear()
        loss = loop.loss() / MICRO
        loss.backward()
    loop.optimizer.step()
    return loss


def cleared(loop):
    return accumulate(loop, loop.optimizer.zero_grad)


def cleared_by_the_model(loop):
    return accumulate(loop, loop.model.zero_grad)


def cleared_in_place(loop):
    return accumulate(loop, lambda: loop.optimizer.zero_grad(set_to_none=False))


def once(loop):
    loop.optimizer.zero_grad()
    return accumulate(loop, lambda: None)


def one_pass(loop):
    loop.optimizer.zero_grad()
    loss = loop.loss()
    loss.backward()
    loop.optimizer.step()
    return loss


def several_updates(loop):
    return [one_pass(loop) for _ in range(MICRO)][-1]


def sharpness_aware(loop):
    """Two passes over one batch; the weights move in between, without autograd's notice."""
    inputs = torch.randn(16, 6)
    for sign in (1, -1):
        loop.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(loop.model(inputs), inputs[:, :3].argmax(1))
        loss.backward()
        for weight in loop.model.parameters():
            weight.data.add_(0.01 * sign * weight.grad.sign())
    loop.optimizer.step()
    return loss


def tasks_in_turn(loop):
    """The gradient of each task, projected and put together by hand."""
    inputs, parts = torch.randn(16, 6), []
    for task in range(3):
        loop.optimizer.zero_grad()
        loss = loop.model(inputs)[:, task].square().mean()
        loss.backward()
        parts.append([weight.grad.clone() for weight in loop.model.parameters()])
    for weight, *gradients in zip(loop.model.parameters(), *parts, strict=True):
        weight.grad = sum(gradients)
    loop.optimizer.step()
    return loss


def attacked(loop):
    """Adversarial training: the first pass is for the inputs alone."""
    inputs = torch.randn(16, 6, requires_grad=True)
    labels = inputs.detach()[:, :3].argmax(1)
    nn.functional.cross_entropy(loop.model(inputs), labels).backward()
    loop.optimizer.zero_grad()
    loss = nn.functional.cross_entropy(loop.model(inputs.detach() + inputs.grad.sign()), labels)
    loss.backward()
    loop.optimizer.step()
    return loss


def discriminator(loop):
    """It passes gradient on to a generator, and clears its own before its own pass."""
    generator = nn.Linear(6, 6)
    (-loop.model(generator(torch.randn(16, 6))).mean()).backward()
    loop.optimizer.zero_grad()
    loss = loop.loss()
    loss.backward()
    loop.optimizer.step()
    return loss


def finding(update):
    loop = Loop()
    watcher = watch(loop.model, loop.optimizer)
    for _ in range(30):
        watcher.step(update(loop))
    watcher.close()
    return next((f for f in diagnose(watcher.history).findings if f.rule == NAME), None)


def averaged_by_hand(loop):
    """As ranks do: each clears, and the optimizer gets the mean of their gradients."""
    gathered = []
    for _ in range(2):
        loop.model.zero_grad()
        loss = loop.loss()
        loss.backward()
        gathered.append([weight.grad.clone() for weight in loop.model.parameters()])
    for weight, *gradients in zip(loop.model.parameters(), *gathered, strict=True):
        weight.grad = torch.stack(gradients).mean(0)
    nn.utils.clip_grad_norm_(loop.model.parameters(), 0.1)
    loop.optimizer.step()
    return loss


def cleared_and_clipped(loop):
    for _ in range(MICRO):
        loop.optimizer.zero_grad()
        loss = loop.loss() / MICRO
        loss.backward()
    nn.utils.clip_grad_norm_(loop.model.parameters(), 0.01)
    loop.optimizer.step()
    return loss


def generator(loop):
    """A discriminator is trained first, by samples that are not detached: its pass clears them."""
    judge = nn.Linear(3, 1)
    judging = torch.optim.SGD(judge.parameters(), lr=0.1)
    return trained_in_turn(loop, judge, judging)


def trained_in_turn(loop, judge, judging):
    for is_own in (False, True):
        loop.optimizer.zero_grad()
        judging.zero_grad()
        samples = loop.model(torch.randn(16, 6))
        labels = torch.full((16, 1), float(is_own))
        loss = nn.functional.binary_cross_entropy_with_logits(judge(samples), labels)
        loss.backward()
        (loop.optimizer if is_own else judging).step()
    return loss


@pytest.mark.parametrize(
    "update", [cleared, cleared_by_the_model, cleared_in_place, cleared_and_clipped]
)
def test_what_was_cleared_in_between_is_named(update):
    error = finding(update)
    assert error is not None
    assert error.severity == "error"


@pytest.mark.parametrize(
    "update",
    [
        once,
        one_pass,
        several_updates,
        sharpness_aware,
        tasks_in_turn,
        attacked,
        discriminator,
        generator,
        averaged_by_hand,
    ],
)
def test_other_loops_pass(update):
    assert finding(update) is None


class Adversaries(nn.Module):
    """A generator and the discriminator of its samples in one module, as Lightning has them."""

    def __init__(self, generator):
        super().__init__()
        self.generator, self.judge = generator, nn.Linear(3, 1)

    def forward(self, inputs):
        return self.judge(self.generator(inputs))


def test_two_networks_in_one_module_are_trained_in_turn():
    loop = Loop()
    both = Adversaries(loop.model)
    judging = torch.optim.SGD(both.judge.parameters(), lr=0.1)
    watcher = watch(both, [loop.optimizer, judging])
    for _ in range(30):
        for is_own in (False, True):
            both.zero_grad()
            labels = torch.full((16, 1), float(is_own))
            outputs = both(torch.randn(16, 6))
            loss = nn.functional.binary_cross_entropy_with_logits(outputs, labels)
            loss.backward()
            (loop.optimizer if is_own else judging).step()
        watcher.step(loss)
    watcher.close()
    assert NAME not in {finding.rule for finding in diagnose(watcher.history).findings}
