"""The losses of a GPU are read late. All of it but the copy itself is run here, on the CPU."""

import gc
from itertools import count, islice
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from training.test_loop import assert_equal, parts, run, stream, weights

from thalweg import observe
from thalweg.optim import OPTIMIZERS, SCHEDULES
from thalweg.optim.ema import WeightAverage
from thalweg.training import NonFiniteLossError, train
from thalweg.training.deferred_loss_check import (
    MAX_PENDING,
    DeferredLossCheck,
    deferred_loss_check,
    honours_found_inf,
)

SKIPPING = ["sgd", "adamw", "adam", "momentum", "nesterov", "adagrad"]
NAN = float("nan")


def spoiled(bad, at):
    """A loss that is no number at its call `at`, and finite again afterwards."""
    calls = count()

    def loss_fn(logits, targets):
        loss = F.cross_entropy(logits, targets)
        return loss * bad if next(calls) == at else loss

    return loss_fn


def test_these_optimizers_skip_an_update_themselves():
    assert [name for name in OPTIMIZERS if honours_found_inf(parts(optimizer=name)[1])] == SKIPPING


def test_on_the_cpu_no_loss_is_late():
    assert all(deferred_loss_check(parts(optimizer=name)[1]) is None for name in OPTIMIZERS)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_nothing_changes_while_losses_are_finite(optimizer, accumulate):
    now, later = parts(optimizer=optimizer), parts(optimizer=optimizer)
    deferred = DeferredLossCheck(later[1])
    expected = run(*now, accumulate=accumulate)
    found = run(*later, accumulate=accumulate, deferred=deferred)
    deferred.check_all()
    assert [step.loss.item() for step in found] == [step.loss.item() for step in expected]
    assert_equal(weights(later[0]), weights(now[0]))


@pytest.mark.parametrize(
    ("optimizer", "bad"),
    [*((name, NAN) for name in OPTIMIZERS), ("sgd", float("inf")), ("adamw", -float("inf"))],
)
@pytest.mark.parametrize(("step", "micro_batch", "accumulate"), [(0, 0, 1), (3, 0, 1), (2, 1, 3)])
def test_no_update_follows_a_bad_loss(optimizer, bad, step, micro_batch, accumulate):
    """The error comes late, names the place, and the weights are those of before."""
    whole = parts(optimizer=optimizer)
    options = {"accumulate": accumulate, "schedule": SCHEDULES["constant"]()}
    run(*whole, steps=step, **options)
    model, made = parts(optimizer=optimizer)
    number = step * accumulate + micro_batch
    steps = train(
        model,
        stream(),
        spoiled(bad, number),
        optimizer=made,
        steps=30,
        deferred=DeferredLossCheck(made),
        **options,
    )
    yielded = []
    with pytest.raises(NonFiniteLossError) as caught:
        yielded.extend(each.index for each in steps)
    error: Any = caught.value
    assert (error.step, error.micro_batch) == (step, micro_batch)
    assert torch.equal(error.batch.inputs, next(stream(start=number)).inputs)
    assert str(error.loss) == str(bad / accumulate)
    assert len(yielded) == (number + MAX_PENDING) // accumulate
    trained = [name for name, _ in model.named_parameters()]
    before, after = weights(whole[0]), weights(model)
    assert_equal({n: after[n] for n in trained}, {n: before[n] for n in trained})


def test_settling_finds_what_is_still_on_its_way():
    model, optimizer = parts()
    deferred = DeferredLossCheck(optimizer)
    options = {"optimizer": optimizer, "schedule": SCHEDULES["constant"](), "steps": 3}
    assert len(list(train(model, stream(), spoiled(NAN, 2), deferred=deferred, **options))) == 3
    with pytest.raises(NonFiniteLossError) as caught:
        deferred.check_all()
    assert caught.value.step == 2
    deferred.check_all()  # it has been told


def test_no_more_batches_are_held_than_losses_are_late():
    model, optimizer = parts()
    seen = []

    def batches():
        for batch in stream():
            seen.append(batch.inputs.data_ptr())
            yield batch

    deferred = DeferredLossCheck(optimizer)
    run(model, optimizer, batches=batches(), steps=12, deferred=deferred)
    gc.collect()
    assert len(deferred._pending) == MAX_PENDING


class HostReads(TorchDispatchMode):
    """Counts what makes the host wait for a number: item(), bool(), float(), int()."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waits = ("aten::_local_scalar_dense", "aten::nonzero", "aten::_unique2", "aten::equal")
        self.count += func._schema.name in waits
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1.0}, {"accumulate": 2}])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_no_step_reads_from_the_device(optimizer, options):
    """Watched, between two readings (steps 80 and 100) and two fetches (steps 64 and 128)."""
    model, made = parts(optimizer=optimizer)
    watcher = observe.watch(model, made, loss_fn=F.cross_entropy, num_classes=4)
    options = options | {"schedule": SCHEDULES["cosine"](0.3), "optimizer": made, "steps": 130}
    steps = train(model, stream(), F.cross_entropy, deferred=DeferredLossCheck(made), **options)
    for step in islice(steps, 82):
        watcher.step(step.loss, logits=step.logits, batch=(None, step.targets))
    with HostReads() as reads:
        for step in islice(steps, 16):
            watcher.step(step.loss, logits=step.logits, batch=(None, step.targets))
    assert reads.count == 0


def test_the_count_sees_the_loop_that_reads_each_loss():
    model, optimizer = parts()
    with HostReads() as reads:
        run(model, optimizer, steps=5)
    assert reads.count == 5


def on_a_gpu(optimizer):
    """A model there, its optimizer, and what reads its losses late."""
    model, _ = parts()
    model.cuda()
    made = OPTIMIZERS[optimizer](model.named_parameters(), lr=0.05, weight_decay=0.0, momentum=0.9)
    deferred = deferred_loss_check(made)
    assert deferred is not None
    return model, made, deferred


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_on_a_gpu_no_step_waits(optimizer):
    model, made, deferred = on_a_gpu(optimizer)
    watcher = observe.watch(model, made, loss_fn=F.cross_entropy, num_classes=4)
    average = WeightAverage(model)
    batches = [batch.to(torch.device("cuda")) for batch in islice(stream(), 130)]
    options = {
        "optimizer": made,
        "schedule": SCHEDULES["cosine"](0.3),
        "steps": 130,
        "deferred": deferred,
    }
    steps = train(model, iter(batches), F.cross_entropy, **options)

    def make(count):
        for step in islice(steps, count):
            watcher.step(step.loss, logits=step.logits, batch=(None, step.targets))
            average.update(step.index)

    make(82)
    torch.cuda.set_sync_debug_mode("error")
    try:
        make(16)  # between two readings, and two fetches of the losses
    finally:
        torch.cuda.set_sync_debug_mode("default")
    make(32)
    deferred.check_all()


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_on_a_gpu_no_update_follows_a_bad_loss(optimizer):
    model, made, deferred = on_a_gpu(optimizer)
    batches = (batch.to(torch.device("cuda")) for batch in stream())
    options = {"optimizer": made, "schedule": SCHEDULES["constant"](), "steps": 30}
    steps = train(model, batches, spoiled(NAN, 3), deferred=deferred, **options)
    assert [step.index for step in islice(steps, 3)] == [0, 1, 2]
    before = {n: w.detach().clone() for n, w in model.named_parameters()}
    with pytest.raises(NonFiniteLossError) as caught:
        list(steps)
    assert caught.value.step == 3
    assert_equal({n: w.detach() for n, w in model.named_parameters()}, before)
