"""A reading needs no memory of the size of the weights or of the logits."""

import gc
from itertools import product
from math import prod

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.observe import watch
from thalweg.observe.forward_pass import ForwardPass
from thalweg.observe.instrument import instrument
from thalweg.observe.spaced_entries import (
    MOST_OF_WEIGHTS,
    class_dimension,
    compact,
    entries_per_tensor,
    norms,
    output_strides,
    spaced_entries,
    strided,
    target_strides,
)
from thalweg.record.quantities import BATCH_SIZE, GRADIENT_RATIO, OUTPUT_WIDTH, UPDATE_RATIO

SHAPES = [(7,), (3, 5), (400, 33), (2, 5000), (64, 32, 3, 3), (1, 1), (0, 4)]


@pytest.mark.parametrize(("shape", "most"), list(product(SHAPES, (1, 10, 1000))))
def test_entries_are_bounded_views_that_span_the_tensor(shape, most):
    tensor = torch.arange(float(prod(shape))).reshape(shape)
    view = spaced_entries(tensor, most)
    assert view.numel() <= most
    assert view.numel() >= min(most, tensor.numel()) / 10**tensor.ndim
    assert view.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
    if tensor.numel() <= most:
        assert view is tensor


def test_an_embedding_is_sampled_at_many_rows_and_many_columns():
    view = spaced_entries(torch.empty(50_000, 256), 10_000)
    assert view.shape[0] > 200
    assert view.shape[1] > 3


def test_small_weights_are_read_whole_and_large_ones_share_the_rest():
    tensors = [torch.empty(10), torch.empty(2000, 1000), torch.empty(3000, 1000), torch.empty(5)]
    entries = entries_per_tensor(tensors)
    assert entries[0] == 10
    assert entries[3] == 5
    assert sum(4 * count for count in entries) <= MOST_OF_WEIGHTS
    assert entries_per_tensor(tensors[:2]) == [10, 2_000_000]
    assert entries_per_tensor([]) == []


@pytest.mark.parametrize(
    "shape", [(4, 10), (1000, 50), (8, 300, 700), (2, 5, 90, 80), (100,), (), (2, 5, 9, 40, 30)]
)
def test_outputs_are_sampled_with_each_prediction_whole(shape):
    output = torch.zeros(shape)
    part = strided(output, output_strides(shape, 5000))
    assert part.numel() <= 5000
    assert part.numel() >= min(output.numel(), 5000) / 8
    classes = 1 if len(shape) >= 4 else len(shape) - 1
    if shape:
        assert part.shape[classes] == shape[classes] or len(shape) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_norms_are_those_of_float64(dtype):
    torch.manual_seed(0)
    tensors = [torch.randn(300, 70).to(dtype), torch.ones(3, dtype=dtype), torch.randn(8, 9, 5).mT]
    for norm, tensor in zip(norms(tensors), tensors, strict=True):
        torch.testing.assert_close(norm.double(), tensor.double().norm(), rtol=1e-5, atol=0)


def test_half_precision_is_summed_in_single_precision():
    (norm,) = norms([torch.ones(2**23, dtype=torch.float16)])
    torch.testing.assert_close(float(norm), 2**11.5, rtol=1e-5, atol=0)


def one_update(model, inputs, *, instruments=None):
    """The history of one update, and each matrix's ratios from copies of all weights."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = watch(model, optimizer, instruments=instruments)
    loss = F.mse_loss(model(inputs), torch.ones(len(inputs), 1))
    loss.backward()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer.step()
    watcher.step(loss)
    exact = {
        name: tuple(float(part.norm() / before[name].norm()) for part in (change, weight.grad))
        for name, weight in model.named_parameters()
        if weight.ndim > 1 and (change := weight.detach() - before[name]) is not None
    }
    return watcher.history, exact


def test_ratios_of_a_large_model_come_from_a_bounded_copy():
    torch.manual_seed(0)
    copied = []

    @instrument(UPDATE_RATIO, keeps_weights=True)
    def spy(moment):
        copied.append(sum(w.numel() * w.element_size() for w in moment.weights_before))
        return {}

    model = nn.Sequential(nn.Linear(900, 3000), nn.Tanh(), nn.Linear(3000, 1))
    inputs = torch.randn(8, 900)
    one_update(model, inputs, instruments=[spy])
    assert copied
    assert max(copied) <= MOST_OF_WEIGHTS
    history, exact = one_update(model, inputs)
    for name, (update, gradient) in exact.items():
        assert history.series(UPDATE_RATIO, name)[0] == pytest.approx(update, rel=0.1)
        assert history.series(GRADIENT_RATIO, name)[0] == pytest.approx(gradient, rel=0.1)


def large_tensors(*, but: nn.Module) -> list[tuple[int, ...]]:
    """Shapes of the tensors in memory whose storage is of 8 MiB or more."""
    own = {weight.data_ptr() for weight in but.parameters()}
    own |= {weight.grad.data_ptr() for weight in but.parameters() if weight.grad is not None}
    gc.collect()
    tensors = [one for one in gc.get_objects() if type(one) is torch.Tensor and one.numel()]
    return [
        tuple(one.shape)
        for one in tensors
        if one.untyped_storage().nbytes() >= 2**23 and one.data_ptr() not in own
    ]


class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(5000, 8), nn.Linear(8, 5000)

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


def language_step(model, optimizer, tokens):
    logits = model(tokens)
    loss = F.cross_entropy(logits.flatten(0, 1), tokens.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def test_nothing_of_the_size_of_the_logits_is_held_after_a_reading():
    torch.manual_seed(0)
    model, tokens = Language(), torch.randint(5000, (8, 128))  # 20 MB of logits
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = watch(model, optimizer)
    for _ in range(3):
        watcher.step(language_step(model, optimizer, tokens))
    with torch.no_grad():
        model(tokens)  # as in validation
    assert not large_tensors(but=model)
    assert watcher.history.series(OUTPUT_WIDTH) == {0: 5000.0, 2: 5000.0}
    assert watcher.history.series(BATCH_SIZE)[0] == 8


def test_large_inputs_are_held_as_few_samples():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 128 * 128, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    watcher = watch(model, optimizer)
    inputs = torch.zeros(256, 3, 128, 128)  # 50 MB
    loss = model(inputs).square().mean()
    loss.backward()
    optimizer.step()
    watcher.step(loss)
    forward = watcher._readings._forward
    del inputs, loss
    assert forward is not None
    assert forward.first_input is not None
    assert 1 <= len(forward.first_input) < 128
    assert forward.batch_size == 256
    assert len(large_tensors(but=model)) <= 4  # few inputs, and the batch of samples for the end


def test_a_small_view_does_not_keep_its_large_memory():
    large = torch.zeros(10_000)
    assert compact(large[:10]).untyped_storage().nbytes() == 40
    assert compact(large) is large


@pytest.mark.parametrize(
    ("shape", "output"),
    [
        ((64, 9), (64, 9, 2000)),
        ((64, 30, 30), (64, 5, 30, 30)),
        ((576,), (64, 9, 2000)),
        ((), (4, 5)),
    ],
)
def test_targets_are_those_of_the_outputs_that_are_kept(shape, output):
    part_of_output = strided(torch.zeros(output), output_strides(output, 10_000))
    part = strided(torch.zeros(shape), target_strides(shape, output, 10_000))
    classes = class_dimension(len(output))
    predictions = [length for dim, length in enumerate(part_of_output.shape) if dim != classes]
    if len(shape) == len(output) - 1:
        assert list(part.shape) == predictions
    assert part.numel() <= 10_000


def test_few_samples_of_large_outputs_pass_through_the_model_at_the_end():
    """Else 128 samples' logits, of words × vocabulary each, would be gathered."""
    torch.manual_seed(0)
    model, tokens = Language(), torch.randint(5000, (200, 128))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    affordable = []

    @instrument(OUTPUT_WIDTH, when="end")
    def spy(moment):
        affordable.append(moment.affordable(1024))
        return {}

    watcher = watch(model, optimizer, instruments=[spy], train=[(tokens, tokens)])
    watcher.step(language_step(model, optimizer, tokens[:4]))
    watcher.close()
    assert 2 <= affordable[0] * 128 * 5000 * 4 / 2**20 <= 48


def test_nothing_of_a_reading_waits_for_the_garbage_collector():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    gc.collect()
    gc.disable()
    try:
        watcher = watch(model, optimizer)
        for _ in range(8):
            loss = F.cross_entropy(model(torch.randn(5, 4)), torch.zeros(5, dtype=torch.long))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        passes = [one for one in gc.get_objects() if type(one) is ForwardPass]
    finally:
        gc.enable()
    assert len(passes) == 1, "the last one alone is kept, for the end"
    watcher.close()
