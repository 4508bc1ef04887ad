"""Schedulers, scalers, accumulation: read from the objects that drive the loop, and counted."""

import gc
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.observe.loop_state import rounds_to_zero
from thalweg.record.quantities import BACKWARD_PASSES, GRADIENT_SCALE, SCALER_SCALE

BATCHES, EPOCHS = 10, 6


def data():
    torch.manual_seed(0)
    inputs = torch.randn(160, 8)
    return list(zip(inputs.split(16), inputs[:, :4].argmax(1).split(16), strict=True))


def mlp():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def run(
    *, scheduler=lambda optimizer: None, per="epoch", pass_scheduler=False, epochs=EPOCHS,
    metric=None, validates=True, lr=0.1,
):  # fmt: skip
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    driver = scheduler(optimizer)
    watcher = watch(
        model, optimizer, diagnose=diagnose, scheduler=driver if pass_scheduler else None
    )
    for epoch in range(epochs):
        for inputs, targets in data():
            loss = F.cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
            if driver and per == "batch":
                driver.step()
        if validates:
            watcher.log(val_loss=1.0 / (epoch + 1), val_accuracy=0.5 + epoch / 20)
        if driver and per == "epoch":
            driver.step(*([] if metric is None else [metric(epoch)]))
    return watcher.diagnose()


def finding(diagnosis, name):
    return next((each for each in diagnosis.findings if each.rule == name), None)


def one_cycle(optimizer):
    return lr_scheduler.OneCycleLR(optimizer, 0.1, epochs=EPOCHS, steps_per_epoch=BATCHES)


def cosine(calls):
    return lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, calls)


def transformers_linear(calls):
    """As transformers builds it: a partial function that holds the number of training steps."""
    from functools import partial

    def factor(step, *, num_training_steps):
        return max(0.0, 1 - step / num_training_steps)

    return lambda o: lr_scheduler.LambdaLR(o, partial(factor, num_training_steps=calls))


@pytest.mark.parametrize(
    ("scheduler", "per"),
    [
        (one_cycle, "epoch"),
        (cosine(BATCHES * EPOCHS), "epoch"),
        (transformers_linear(BATCHES * EPOCHS), "epoch"),
        (cosine(EPOCHS), "batch"),
        (transformers_linear(EPOCHS), "batch"),
    ],
)
@pytest.mark.parametrize("pass_scheduler", [True, False])
def test_a_scheduler_that_is_called_at_the_wrong_rate_is_named(scheduler, per, pass_scheduler):
    diagnosis = run(scheduler=scheduler, per=per, pass_scheduler=pass_scheduler)
    assert finding(diagnosis, "scheduler-out-of-step") is not None
    assert diagnosis.headline.rule == "scheduler-out-of-step"


@pytest.mark.parametrize(
    ("scheduler", "per"),
    [
        (one_cycle, "batch"),
        (cosine(EPOCHS), "epoch"),
        (cosine(BATCHES * EPOCHS), "batch"),
        (cosine(200), "epoch"),  # ended early
        (lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=3), "batch"),  # a warm-up
        (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5), "batch"),
        (lambda o: lr_scheduler.StepLR(o, 3), "epoch"),
        (
            lambda o: lr_scheduler.SequentialLR(
                o,
                [lr_scheduler.LinearLR(o, 0.1, total_iters=5), lr_scheduler.ConstantLR(o, 1.0)],
                milestones=[5],
            ),
            "batch",
        ),
    ],
)
def test_sound_schedules_have_no_finding(scheduler, per):
    assert finding(run(scheduler=scheduler, per=per), "scheduler-out-of-step") is None


def plateau(mode):
    return lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode, patience=1)


def accuracy(epoch):
    return 0.5 + epoch / 20


def val_loss(epoch):
    return 1.0 / (epoch + 1)


@pytest.mark.parametrize(("mode", "metric"), [("min", accuracy), ("max", val_loss)])
def test_a_plateau_with_the_wrong_mode_is_named(mode, metric):
    diagnosis = run(scheduler=plateau(mode), metric=metric)
    assert finding(diagnosis, "plateau-metric-reversed") is not None


@pytest.mark.parametrize(
    ("mode", "metric", "validates"),
    [("max", accuracy, True), ("min", val_loss, True), ("min", accuracy, False)],
)
def test_a_sound_plateau_has_no_finding(mode, metric, validates):
    diagnosis = run(scheduler=plateau(mode), metric=metric, validates=validates)
    assert finding(diagnosis, "plateau-metric-reversed") is None


def accumulate(passes, *, divide, lr=2.0, optimizer=torch.optim.SGD, loss_fn=F.cross_entropy,
               every=True, multi_label=False, scaler=None):  # fmt: skip
    """Train with that many backward passes an update; the watcher sees the updates alone."""
    model, batches = mlp(), data()
    driver = optimizer(model.parameters(), lr=lr)
    watcher = watch(model, driver, diagnose=diagnose)
    for step in range(20):
        for part in range(passes):
            inputs, targets = batches[(step * passes + part) % len(batches)]
            if multi_label:
                targets = F.one_hot(targets, 4).float()
            loss = loss_fn(model(inputs), targets)
            scaled = loss / passes if divide else loss
            (scaler.scale(scaled) if scaler else scaled).backward()
        if scaler:
            scaler.step(driver)
            scaler.update()
        else:
            driver.step()
        driver.zero_grad()
        watcher.step(loss)
    return watcher.diagnose(), watcher.history


def logistic(outputs, targets):
    return F.binary_cross_entropy_with_logits(outputs, targets)


@pytest.mark.parametrize(
    ("passes", "loss_fn", "multi_label"),
    [(8, F.cross_entropy, False), (16, F.cross_entropy, False), (8, logistic, True)],
)
def test_accumulation_without_a_division_is_counted(passes, loss_fn, multi_label):
    lr = 20.0 if multi_label else 4.0
    diagnosis, history = accumulate(
        passes, divide=False, lr=lr, loss_fn=loss_fn, multi_label=multi_label
    )
    named = finding(diagnosis, "undivided-accumulation")
    assert named is not None
    assert f"/ {passes})" in named.prescriptions[0].change
    assert history.last(BACKWARD_PASSES) == passes
    assert history.last(GRADIENT_SCALE) == pytest.approx(1.0, rel=1e-3)


def test_accumulation_with_a_scaler_is_seen_through_its_scale():
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    diagnosis, history = accumulate(8, divide=False, scaler=scaler)
    assert finding(diagnosis, "undivided-accumulation") is not None
    assert history.last(SCALER_SCALE) == 1024.0


def test_without_harm_it_is_only_noted():
    diagnosis, _ = accumulate(8, divide=False, lr=0.02, optimizer=torch.optim.Adam)
    named = finding(diagnosis, "undivided-accumulation")
    assert named is not None
    assert named.severity == "note"


@pytest.mark.parametrize(("passes", "divide"), [(8, True), (16, True), (1, False), (2, False)])
def test_sound_accumulation_has_no_finding(passes, divide):
    diagnosis, _ = accumulate(passes, divide=divide)
    assert finding(diagnosis, "undivided-accumulation") is None
    assert finding(diagnosis, "missing-zero-grad") is None


def test_several_losses_of_one_pass_are_no_accumulation():
    model, batches = mlp(), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = watch(model, optimizer, diagnose=diagnose)
    for step in range(20):
        inputs, targets = batches[step % len(batches)]
        outputs = model(inputs)
        for part in range(4):
            loss = F.cross_entropy(
                outputs[part * 4 : part * 4 + 4], targets[part * 4 : part * 4 + 4]
            )
            loss.backward(retain_graph=True)
        optimizer.step()
        optimizer.zero_grad()
        watcher.step(loss)
    assert finding(watcher.diagnose(), "undivided-accumulation") is None


def clipped(*, unscale, scale=65536.0, bound=1.0, enabled=True):
    model, batches = mlp(), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=enabled, growth_interval=15)
    watcher = watch(model, optimizer, diagnose=diagnose)
    for step in range(60):
        inputs, targets = batches[step % len(batches)]
        with torch.autocast("cpu", torch.bfloat16) if enabled else nullcontext():
            loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        if unscale:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), bound)
        scaler.step(optimizer)
        scaler.update()
        watcher.step(loss)
    return finding(watcher.diagnose(), "clipping-too-tight")


@pytest.mark.parametrize(("scale", "bound"), [(65536.0, 1.0), (4096.0, 0.5)])
def test_clipping_of_scaled_gradients_names_the_scaler(scale, bound):
    named = clipped(unscale=False, scale=scale, bound=bound)
    assert named is not None
    assert "unscale_" in named.prescriptions[0].change


@pytest.mark.parametrize(
    "changes",
    [{"unscale": True}, {"unscale": True, "bound": 0.1}, {"unscale": False, "enabled": False}],
)
def test_clipping_of_true_gradients_has_no_finding(changes):
    assert clipped(**changes) is None


@pytest.mark.parametrize(
    ("eps", "dtype", "zero"),
    [
        (1e-8, torch.float16, True),
        (1e-8, torch.bfloat16, False),
        (1e-8, torch.float32, False),
        (1e-4, torch.float16, False),
        (0.0, torch.float16, False),
    ],
)
def test_an_eps_that_rounds_to_zero(eps, dtype, zero):
    assert rounds_to_zero(eps, dtype) is zero


def milestones(*counts, gamma=0.1):
    return lambda optimizer: lr_scheduler.MultiStepLR(optimizer, list(counts), gamma=gamma)


def warmup(calls):
    return lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [
            lr_scheduler.LinearLR(optimizer, 0.01, total_iters=calls),
            lr_scheduler.ConstantLR(optimizer, 1.0, total_iters=1),
        ],
        milestones=[calls],
    )


@pytest.mark.parametrize(
    ("scheduler", "per"),
    [
        (milestones(3, 5), "batch"),
        (milestones(2, 4, 5, gamma=0.3), "batch"),
        (warmup(40), "epoch"),
        (lambda o: lr_scheduler.LinearLR(o, 0.01, total_iters=50), "epoch"),
    ],
)
def test_milestones_and_warmups_of_another_unit_are_named(scheduler, per):
    diagnosis = run(scheduler=scheduler, per=per)
    assert diagnosis.headline.rule == "scheduler-out-of-step"


@pytest.mark.parametrize(
    ("scheduler", "per"),
    [
        (milestones(3, 5), "epoch"),
        (milestones(30, 45), "batch"),
        (milestones(30, 60), "epoch"),  # ended early
        (milestones(2, 4, gamma=0.9), "batch"),  # hardly a step down
        (warmup(5), "batch"),
        (warmup(8), "epoch"),  # ended early
    ],
)
def test_milestones_and_warmups_of_the_right_unit_pass(scheduler, per):
    diagnosis = run(scheduler=scheduler, per=per)
    assert finding(diagnosis, "scheduler-out-of-step") is None


@pytest.mark.parametrize(
    "factor", [lambda step: 0.0, lambda step: step // 40, lambda step: float(step > 35)]
)
def test_a_rate_of_zero_is_named(factor):
    diagnosis = run(scheduler=lambda o: lr_scheduler.LambdaLR(o, factor), per="batch")
    assert diagnosis.headline.rule == "learning-rate-collapsed"


@pytest.mark.parametrize(
    "factor",
    [
        lambda step: min(1.0, step / 30),  # a warm-up from 0
        lambda step: 1 - step / 60,
        lambda step: float(step % 5 != 0),
        lambda step: 0.0 if step < 20 else 1.0,
    ],
)
def test_a_rate_that_is_seldom_zero_passes(factor):
    diagnosis = run(scheduler=lambda o: lr_scheduler.LambdaLR(o, factor), per="batch")
    assert finding(diagnosis, "learning-rate-collapsed") is None


def run_groups(groups, *, adjust=lambda optimizer, step: None, optimizer=torch.optim.SGD):
    """Train with two groups of these settings; the loop changes their rates before each step."""
    model = mlp()
    halves = [{"params": model[i].parameters(), **g} for i, g in zip((0, 2), groups, strict=True)]
    driver = optimizer(halves, lr=0.1)
    watcher = watch(model, driver, diagnose=diagnose)
    for step in range(24):
        inputs, targets = data()[step % BATCHES]
        adjust(driver, step)
        loss = F.cross_entropy(model(inputs), targets)
        driver.zero_grad()
        loss.backward()
        driver.step()
        watcher.step(loss)
    return watcher.diagnose()


def one_rate_for_all(optimizer, step):
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * min(1.0, (step + 1) / 10)


def own_rates(optimizer, step):
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("own", group["lr"]) * min(1.0, (step + 1) / 10)


def scaled_rates(optimizer, step):
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * group["lr_scale"]


def meeting_rates(optimizer, step):
    """Biases start high, as in YOLO's warm-up, and meet the others' rate."""
    for group, start in zip(optimizer.param_groups, (0.0, 0.1), strict=True):
        group["lr"] = start + (0.01 - start) * min(1.0, step / 10)


class Scaling(torch.optim.SGD):
    """An optimizer that reads the groups' factors itself."""


Scaling.__module__ = "stranger.optim"


@pytest.mark.parametrize(
    ("groups", "adjust"),
    [
        (({"lr": 0.001}, {"lr": 0.1}), one_rate_for_all),
        (({"lr_scale": 0.01}, {"lr_scale": 1.0}), one_rate_for_all),
        (({"lr_mult": 10}, {"lr_mult": 1}), lambda optimizer, step: None),
    ],
)
def test_rates_of_groups_that_no_step_uses_are_named(groups, adjust):
    assert finding(run_groups(groups, adjust=adjust), "group-rates-overwritten") is not None


@pytest.mark.parametrize(
    ("groups", "adjust", "optimizer"),
    [
        (({}, {"weight_decay": 0.1}), one_rate_for_all, torch.optim.SGD),
        (({"lr": 0.001}, {"lr": 0.1}), own_rates, torch.optim.SGD),
        (({"lr_scale": 0.01}, {"lr_scale": 1.0}), scaled_rates, torch.optim.SGD),
        (({"lr": 0.01}, {"lr": 0.01}), meeting_rates, torch.optim.SGD),
        (({"lr_scale": 0.01}, {"lr_scale": 1.0}), one_rate_for_all, Scaling),
        (({"lr": 0.0}, {"lr": 0.1}), lambda optimizer, step: None, torch.optim.SGD),
    ],
)
def test_sound_rates_of_groups_pass(groups, adjust, optimizer):
    diagnosis = run_groups(groups, adjust=adjust, optimizer=optimizer)
    assert finding(diagnosis, "group-rates-overwritten") is None


@pytest.mark.parametrize(("clips_scaled", "named"), [(True, True), (False, False)])
def test_a_scaler_that_is_gone_at_the_end_was_seen_making_an_update(clips_scaled, named):
    def train():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scaler = torch.amp.GradScaler("cpu")
        watcher = watch(model, optimizer, diagnose=diagnose)
        for _ in range(120):
            inputs = torch.randn(32, 8)
            loss = nn.functional.cross_entropy(model(inputs), inputs[:, :4].argmax(1))
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            if not clips_scaled:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            watcher.step(loss)
        return watcher

    watcher = train()
    gc.collect()
    cause = finding(watcher.diagnose(), "clipping-too-tight")
    assert watcher.history.last(SCALER_SCALE) == 65536
    assert (cause is not None and "unscale_" in cause.prescriptions[0].change) == named
