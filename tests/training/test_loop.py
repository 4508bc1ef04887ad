from itertools import count, islice, repeat
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.data import Batch
from thalweg.data.batch import tensors_of
from thalweg.models import MODELS
from thalweg.optim import OPTIMIZERS, SCHEDULES
from thalweg.training import NonFiniteLossError, train


def stream(*, size=8, start=0, shape=(1, 8, 8)):
    """Endless batches; each follows from its number alone."""
    for number in count(start):
        generator = torch.Generator().manual_seed(number)
        inputs = torch.randn(size, *shape, generator=generator)
        yield Batch(inputs, torch.randint(4, (size,), generator=generator))


def parts(name="convnet", optimizer="sgd", **changes):
    torch.manual_seed(0)
    model = MODELS[name](4, input_shape=(1, 8, 8), width=8, **changes)
    made = OPTIMIZERS[optimizer](model.named_parameters(), lr=0.05, weight_decay=0.01, momentum=0.9)
    return model, made


def run(model, optimizer, *, batches=None, loss_fn=F.cross_entropy, **options):
    options = {"steps": 6, "schedule": SCHEDULES["cosine"](0.3), **options}
    return list(train(model, batches or stream(), loss_fn, optimizer=optimizer, **options))


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def hand_written(model, optimizer, *, steps, accumulate=1, max_grad_norm=0.0):
    """What anybody would write."""
    schedule, peak, losses, batches = SCHEDULES["cosine"](0.3), 0.05, [], stream()
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = peak * schedule((step + 0.5) / steps)
        optimizer.zero_grad()
        losses.append(0.0)
        for inputs, targets in islice(batches, accumulate):
            loss = F.cross_entropy(model(inputs), targets)
            if accumulate > 1:
                loss = loss / accumulate
            loss.backward()
            losses[-1] += loss.item()
        if max_grad_norm:
            nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
    return losses


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate": 3}, {"max_grad_norm": 0.5}],
    ids=["plain", "accumulated", "clipped"],
)
def test_our_loop_equals_a_hand_written_one_bit_for_bit(optimizer, options):
    ours, theirs = parts(optimizer=optimizer), parts(optimizer=optimizer)
    steps = run(*ours, **options)
    losses = hand_written(*theirs, steps=6, **options)
    assert [step.loss.item() for step in steps] == pytest.approx(losses, rel=1e-7, abs=0)
    assert_equal(weights(ours[0]), weights(theirs[0]))


def test_losses_equal_the_hand_written_loops_exactly():
    ours, theirs = parts(), parts()
    assert [step.loss.item() for step in run(*ours)] == hand_written(*theirs, steps=6)


def test_accumulated_batches_equal_one_big_batch():
    """In float64 and without batch normalisation, which sees the batch."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(24, 1, 8, 8, generator=generator, dtype=torch.float64)
    targets = torch.arange(24) % 4
    found = []
    for pieces in (1, 4):
        model, optimizer = parts("mlp")
        model.double()
        chunks = zip(inputs.chunk(pieces), targets.chunk(pieces), strict=True)
        batches = [Batch(*chunk) for chunk in chunks] * 5
        steps = run(model, optimizer, batches=iter(batches), steps=5, accumulate=pieces)
        found.append((weights(model), torch.stack([step.loss for step in steps])))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_run_continued_at_start_equals_one_that_never_stopped(stop, accumulate):
    whole, halves = parts(), parts()
    expected = run(*whole, accumulate=accumulate)
    options = {"steps": 6, "accumulate": accumulate, "schedule": SCHEDULES["cosine"](0.3)}
    first = train(halves[0], stream(), F.cross_entropy, optimizer=halves[1], **options)
    found = list(islice(first, stop))
    found += run(
        *halves, batches=stream(start=stop * accumulate), start=stop, accumulate=accumulate
    )
    assert [step.index for step in found] == list(range(6))
    assert [s.loss.item() for s in found] == [s.loss.item() for s in expected]
    assert [s.lr_factor for s in found] == [s.lr_factor for s in expected]
    assert_equal(weights(halves[0]), weights(whole[0]))


def test_a_step_carries_what_it_was_made_from():
    model, optimizer = parts()
    batches = list(islice(stream(), 4))
    steps = run(model, optimizer, batches=iter(batches), steps=2, accumulate=2)
    for step, last in zip(steps, (batches[1], batches[3]), strict=True):
        assert step.targets is last.targets
        assert step.logits.shape == (8, 4)
        assert not step.logits.requires_grad
        with pytest.raises(RuntimeError, match="second time"):
            step.loss.backward()  # the graph can be looked at, but holds no activations


def test_clipping_bounds_the_update_by_the_norm():
    model, _ = parts("mlp")
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    plain = torch.optim.SGD(model.parameters(), lr=1.0)
    run(model, plain, steps=1, max_grad_norm=1e-3, schedule=SCHEDULES["constant"]())
    moved = nn.utils.parameters_to_vector(model.parameters()).detach() - before
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights():
    model, optimizer = parts()
    steps = run(model, optimizer, dtype=torch.bfloat16, steps=30)
    assert steps[0].logits.dtype == torch.bfloat16
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    exact = run(*parts(), steps=30)
    assert steps[-1].loss.item() == pytest.approx(exact[-1].loss.item(), rel=0.1)


def test_gradients_are_released_after_the_update():
    model, optimizer = parts()
    run(model, optimizer, steps=1)
    assert all(weight.grad is None for weight in model.parameters())


def test_a_model_left_in_evaluation_mode_is_put_back():
    model, optimizer = parts()
    options = {"optimizer": optimizer, "schedule": SCHEDULES["constant"](), "steps": 3}
    for _ in train(model, stream(), F.cross_entropy, **options):
        assert model.training
        model.eval()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_loss_that_is_no_number_stops_before_the_update(bad, accumulate):
    model, optimizer = parts()
    calls = count()

    def loss_fn(logits, targets):
        loss = F.cross_entropy(logits, targets)
        return loss * bad if next(calls) == 3 * accumulate - 1 else loss

    options = {"optimizer": optimizer, "schedule": SCHEDULES["constant"](), "steps": 9}
    steps = train(model, stream(), loss_fn, accumulate=accumulate, **options)
    assert [next(steps).index, next(steps).index] == [0, 1]
    before = weights(model)
    with pytest.raises(NonFiniteLossError) as caught:
        next(steps)
    assert (caught.value.step, caught.value.micro_batch) == (2, accumulate - 1)
    (inputs,) = tensors_of(caught.value.batch.inputs)
    expected = next(stream(start=3 * accumulate - 1))
    assert torch.equal(inputs, expected.inputs)
    after = weights(model)
    trained = [name for name, _ in model.named_parameters()]
    assert_equal({n: after[n] for n in trained}, {n: before[n] for n in trained})


def test_the_loop_stays_short():
    from inspect import getsource

    from thalweg.training import loop

    assert len(getsource(loop).splitlines()) < 100


def test_a_group_may_end_before_the_others():
    """Its rate falls to zero on its own line; then nothing before it is differentiated, either."""
    torch.manual_seed(0)
    first, last = nn.Linear(3, 4), nn.Linear(4, 2)
    first.weight.requires_grad_(False)
    groups: list[dict[str, Any]]
    groups = [
        {"params": [first.bias], "until": 0.5},
        {"params": [*last.parameters()]},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.8)
    batches = repeat(Batch(torch.randn(5, 3), torch.arange(5) % 2))
    rates, biases, differentiated = [], [], []
    model = nn.Sequential(first, last)
    first.register_forward_hook(lambda m, i, out: differentiated.append(out.requires_grad))
    for _ in train(
        model, batches, F.cross_entropy, optimizer=optimizer, schedule=lambda p: 1.0, steps=8
    ):
        rates.append([group["lr"] for group in optimizer.param_groups])
        biases.append(first.bias.detach().clone())
    progress = [(step + 0.5) / 8 for step in range(8)]
    expected = [[pytest.approx(0.8 * max(0.0, 1 - p / 0.5), abs=1e-12), 0.8] for p in progress]
    assert rates == expected
    assert differentiated == 4 * [True] + 4 * [False]
    assert not torch.equal(biases[2], biases[3])
    assert torch.equal(biases[3], biases[7])
