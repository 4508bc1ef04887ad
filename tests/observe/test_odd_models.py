"""Models with unusual tensors or calls: measured, or not checked for a reason; never changed."""

import threading

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F
from torch.nn.utils import rnn

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.observe.forward_pass import capture
from thalweg.record.quantities import (
    ACTIVATION_STD,
    GRADIENT_NORM,
    INSTRUMENT_FAILED,
    NOT_MEASURED,
    OUTPUT_WIDTH,
    UPDATE_RATIO,
)

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 8


def plain():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def classes(generator):
    inputs = torch.randn(16, 8, generator=generator)
    return inputs, inputs[:, :4].argmax(1)


def sequences(generator):
    lengths = torch.randint(2, 6, (8,), generator=generator)
    return [torch.randn(int(length), 8, generator=generator) for length in lengths]


def cross_entropy(model, inputs, targets):
    return F.cross_entropy(model(inputs), targets)


def trained(build, *, loss_of=cross_entropy, batch=classes, between=None, watched=True):
    """The weights, the history and the diagnosis after some steps."""
    torch.manual_seed(0)
    model, weights = build()
    optimizer = torch.optim.SGD([w for w in weights if w.requires_grad], lr=0.1)
    watcher = watch(model, optimizer, diagnose=diagnose) if watched else None
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        arguments = batch(generator)
        optimizer.zero_grad()
        loss = loss_of(model, *arguments)
        loss.backward()
        optimizer.step()
        if watcher:
            watcher.step(loss)
        if between:
            between(model, arguments)
    if watcher is None:
        return weights, None, None
    diagnosis = watcher.diagnose()
    watcher.close()
    return weights, watcher.history, diagnosis


def dense(weight):
    return weight.codes if isinstance(weight, Codes) else weight.detach().to_dense()


def check(build, **how):
    """Watch a training: nothing breaks, and the weights are those of an unwatched one."""
    expected, _, _ = trained(build, watched=False, **how)
    weights, history, diagnosis = trained(build, **how)
    assert not history.by_place(INSTRUMENT_FAILED)
    assert all(torch.equal(dense(a), dense(b)) for a, b in zip(weights, expected, strict=True))
    assert not [f for f in diagnosis.findings if f.severity == "error"]
    return history, diagnosis


def own(model):
    return lambda: (built := model(), list(built.parameters()))


class Codes(Tensor):
    """Integers and a scale that stand for a weight, as quantisation libraries make them."""

    @staticmethod
    def __new__(cls, codes, scale):
        return Tensor._make_wrapper_subclass(cls, codes.shape, dtype=scale.dtype)

    def __init__(self, codes, scale):
        self.codes, self.scale = codes, scale

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is F.linear:
            return F.linear(args[0], args[1].codes * args[1].scale, *args[2:])
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore[override]
        if func is torch.ops.aten.detach.default:
            return cls(args[0].codes, args[0].scale)
        raise NotImplementedError(func)


def quantised():
    model = plain()
    scale = model[0].weight.detach().abs().max() / 127
    codes = (model[0].weight.detach() / scale).round().to(torch.int8)
    model[0].weight = nn.Parameter(Codes(codes, scale), requires_grad=False)
    return model


class Packed(nn.Module):
    """Four-bit weights in a column of bytes, as bitsandbytes packs them."""

    def __init__(self):
        super().__init__()
        codes = torch.randint(256, (64, 1), dtype=torch.uint8)
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.head = nn.Linear(16, 4)

    def forward(self, inputs):
        low, high = (self.weight & 15).view(8, 8), (self.weight >> 4).view(8, 8)
        return self.head(F.linear(inputs, torch.cat([low, high]).to(inputs.dtype) / 16 - 0.5))


class EightBit(nn.Module):
    def __init__(self):
        super().__init__()
        weight = torch.rand(16, 8).to(torch.float8_e4m3fn)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.flags = nn.Parameter(torch.ones(4, 4, dtype=torch.bool), requires_grad=False)
        self.order = nn.Parameter(torch.arange(4), requires_grad=False)
        self.head = nn.Linear(16, 4)

    def forward(self, inputs):
        return self.head(F.linear(inputs, self.weight.to(inputs.dtype)))[:, self.order]


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 16, dtype=torch.complex64)
        self.second = nn.Linear(16, 4, dtype=torch.complex64)

    def forward(self, inputs):
        return self.second(torch.tanh(self.first(inputs.to(torch.complex64)))).abs()


class SparseWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.mixing = nn.Parameter(torch.eye(8).to_sparse())
        self.head = nn.Linear(8, 4)

    def forward(self, inputs):
        return self.head(torch.sparse.mm(self.mixing, inputs.T).T)


class Scalars(nn.Module):
    """A scalar, an empty weight, a lock, a generator, and a memory that forward writes."""

    def __init__(self):
        super().__init__()
        self.scale, self.empty = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.empty(0, 8))
        self.head = nn.Linear(8, 4)
        self.lock, self.generator = threading.Lock(), torch.Generator().manual_seed(3)
        self.register_buffer("memory", torch.zeros(64, 8))
        self.calls = 0

    def forward(self, inputs):
        with self.lock:
            self.memory[self.calls % 64] = inputs[0].detach()  # type: ignore[operator]
            self.calls += 1
            noise = torch.randn(4, generator=self.generator)
        return self.head(inputs) * self.scale + self.empty.sum() + noise


class InPlace(nn.Module):
    """Writes into its inputs, which the loop goes on to use."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 4)

    def forward(self, inputs):
        return self.head(inputs.mul_(0.5))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTM(8, 16), nn.Linear(16, 4)

    def forward(self, inputs):
        return self.head(self.cell(inputs)[1][0][-1])


MODELS = {
    "quantised": quantised,
    "packed bytes": Packed,
    "eight bits": EightBit,
    "complex": Complex,
    "sparse weight": SparseWeight,
    "scalars": Scalars,
    "in place": InPlace,
    "lazy": lambda: nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 4)),
}


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_what_can_be_read_is_measured_and_the_rest_left_out(build):
    if build is MODELS["lazy"]:
        history, _ = check(lambda: (built := build(), list(built[2].parameters())))
    else:
        history, _ = check(own(build))
    assert history.by_place(GRADIENT_NORM)
    assert history.by_place(UPDATE_RATIO)
    if build is not Complex:  # whose activations have no order
        assert history.by_place(ACTIVATION_STD)


def test_the_batch_of_the_user_is_not_written_twice():
    torch.manual_seed(0)
    model = InPlace()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as watcher:
        inputs = torch.ones(16, 8)
        loss = model(inputs).square().mean()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    assert torch.equal(inputs, torch.full((16, 8), 0.5))


def halves(generator):
    inputs, targets = classes(generator)
    return inputs.bfloat16(), targets


def test_inputs_and_weights_of_half_precision_are_measured():
    history, _ = check(own(lambda: plain().bfloat16()), batch=halves)
    assert history.by_place(ACTIVATION_STD)


def test_a_list_of_images_has_a_sample_each():
    images = [torch.zeros(3, 8, 8), torch.zeros(3, 6, 8)]
    forward = capture(nn.Identity(), (images,), {}, output={"loss": torch.zeros(())})
    assert forward.batch_size == 2


class ModeAsArgument(nn.Module):
    """Is told its mode by an argument, as Keras's models are."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, inputs, training=False):
        return self.head(F.dropout(self.first(inputs).relu(), 0.5, training))


def test_a_mode_that_is_an_argument_is_that_of_eval_in_probes():
    def loss_of(model, inputs, targets):
        return F.cross_entropy(model(inputs, training=True), targets)

    _, diagnosis = check(own(ModeAsArgument), loss_of=loss_of)
    assert "dropout-in-eval-mode" in diagnosis.passed


def jagged(generator):
    return (torch.nested.nested_tensor(sequences(generator), layout=torch.jagged),)


def nested(generator):
    return (torch.nested.nested_tensor(sequences(generator)),)


def packed(generator):
    inputs = rnn.pack_sequence(sequences(generator), enforce_sorted=False)
    return inputs, torch.randint(4, (8,), generator=generator)


def test_jagged_batches_are_measured_by_their_values():
    history, _ = check(
        own(plain),
        batch=jagged,
        loss_of=lambda model, inputs: model(inputs).values().square().mean(),
    )
    assert history.by_place(ACTIVATION_STD)


def test_nested_batches_are_left_out():
    def loss_of(model, inputs):
        return torch.nested.to_padded_tensor(model(inputs), 0.0).square().mean()

    history, _ = check(own(lambda: nn.Linear(8, 4)), batch=nested, loss_of=loss_of)
    assert history.by_place(GRADIENT_NORM)


def test_packed_sequences_are_inputs_like_others():
    history, _ = check(own(Recurrent), batch=packed)
    assert history.by_place(ACTIVATION_STD)


@pytest.mark.parametrize(
    "compile_it", [torch.jit.script, lambda m: torch.jit.trace(m, torch.zeros(2, 8))]
)
def test_a_script_module_says_why_it_is_not_probed(compile_it):
    _, diagnosis = check(own(lambda: compile_it(plain())))
    assert "ScriptModule hides its layers" in diagnosis.not_checked["dead-relu"]
    assert "broke" not in " ".join(diagnosis.not_checked.values())


@pytest.mark.parametrize(
    "transform",
    [
        lambda model, inputs: torch.jit.script(model)(inputs),
        lambda model, inputs: torch.jit.script(model[0])(inputs),
        lambda model, inputs: torch.jit.trace(model, inputs)(inputs),
        lambda model, inputs: torch.fx.symbolic_trace(model)(inputs),
        lambda model, inputs: vmap(model)(inputs),
    ],
    ids=["script", "script a child", "trace", "fx", "vmap"],
)
def test_a_watched_model_can_be_scripted_traced_and_vectorised_between_steps(transform):
    outputs = []
    create = torch.jit._recursive.create_script_module
    check(own(plain), between=lambda model, batch: outputs.append(transform(model, batch[0])))
    half = len(outputs) // 2
    assert all(torch.equal(a, b) for a, b in zip(outputs[:half], outputs[half:], strict=True))
    assert torch.jit._recursive.create_script_module is create


def test_an_ensemble_over_an_empty_shell_says_why_it_is_not_probed():
    def build():
        weights, _ = stack_module_state([plain() for _ in range(3)])
        shell = plain().to("meta")
        shell.members = [weights]  # where a loop keeps them is its own affair
        return shell, list(weights.values())

    def loss_of(model, inputs, targets):
        weights = model.members[0]
        outputs = vmap(lambda one: functional_call(model, one, (inputs,)))(weights)
        return F.cross_entropy(outputs.flatten(0, 1), targets.repeat(3))

    history, diagnosis = check(build, loss_of=loss_of)
    assert history.by_place(NOT_MEASURED)
    assert "meta device" in diagnosis.not_checked["dead-relu"]


class Denoiser(nn.Module):
    """Keeps its network and computes the loss by a method: no forward of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(1))
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))

    def loss(self, inputs):
        return (self.net(inputs) - inputs * self.scale).square().mean()


def test_a_class_around_one_network_is_watched_by_it():
    model = Denoiser()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watch(model, optimizer) as watcher:
        for _ in range(4):
            loss = model.loss(torch.randn(8, 4))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
    assert INSTRUMENT_FAILED not in watcher.history
    assert set(watcher.history.by_place(GRADIENT_NORM)) >= {"0.weight", "2.weight"}
    assert watcher.history.last(OUTPUT_WIDTH) == 4


def test_a_list_of_networks_is_not_checked_and_nothing_breaks():
    model = nn.ModuleList([nn.Linear(4, 3), nn.Linear(3, 2)])
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watch(model, optimizer) as watcher:
        for _ in range(4):
            loss = model[1](model[0](torch.randn(8, 4))).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
    assert INSTRUMENT_FAILED not in watcher.history
    assert watcher.history.last(GRADIENT_NORM, "0.weight") > 0
