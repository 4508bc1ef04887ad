"""A bare copy computes what the model computes, shares its weights, and touches nothing else."""

import random
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from thalweg.observe.bare_copy import CannotCopyError, bare_copy
from thalweg.observe.isolation import isolated


def plain():
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Sequential())


class OldWeightNorm(nn.Module):
    def __init__(self):
        super().__init__()
        with pytest.warns(FutureWarning):
            self.layer = nn.utils.weight_norm(nn.Linear(4, 4))

    def forward(self, inputs):
        return self.layer(inputs)


class Uncopyable(nn.Module):
    """Holds a lock, generators, a result with its graph, layers in a list, and a bound method."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.same: list[Any] = [self.layer, {"again": self.layer}]
        self.lock: Any = threading.Lock()
        self.generators = torch.Generator(), random.Random(0), np.random.default_rng(0)
        self.cache: dict[str, Any] = {"previous": None}
        self.calls: list[int] = []
        self.activate = self.clip

    def clip(self, values):
        return values.clamp(-1, 1)

    def forward(self, inputs):
        with self.lock:
            noise = torch.randn(4, generator=self.generators[0]) + self.generators[1].random()
            self.cache["previous"] = self.activate(self.same[1]["again"](inputs) + noise)
            self.calls.append(len(inputs))
        return self.cache["previous"] + float(self.generators[2].random())


def tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRU(4, 5, num_layers=2, dropout=0.2)

    def forward(self, inputs):
        return self.cell(inputs)[0]


MODELS = {
    "plain": plain,
    "data parallel": lambda: nn.DataParallel(plain()),
    "wrapped child": lambda: nn.Sequential(nn.DataParallel(plain()), nn.Linear(6, 2)),
    "old weight norm": OldWeightNorm,
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 4)),
    "old spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(4, 4)),
    "pruned": lambda: prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5),
    "uncopyable": Uncopyable,
    "tied": tied,
    "recurrent": Recurrent,
    "complex": lambda: nn.Linear(4, 4, dtype=torch.complex64),
    "traced graph": lambda: torch.fx.symbolic_trace(plain()),
}


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_a_copy_computes_the_same_and_shares_the_weights(build):
    torch.manual_seed(0)
    model = build()
    dtype = next(model.parameters()).dtype
    inputs = torch.randn(8, 4).to(dtype)
    model(inputs)  # hooks have made their weights, caches hold a result with its graph
    copy = bare_copy(model).eval()
    buffers = [buffer.clone() for buffer in model.buffers()]
    with isolated(copy):
        output = copy(inputs)
        assert all(torch.equal(a, b) for a, b in zip(model.buffers(), buffers, strict=True))
        expected = model.eval()(inputs)
    assert torch.equal(output, expected)
    own, others = ({w.data_ptr() for w in m.parameters()} for m in (copy, model))
    assert own == others
    assert not {id(b) for b in copy.buffers()} & {id(b) for b in model.buffers()}
    assert not {id(m) for m in copy.modules()} & {id(m) for m in model.modules()}


def test_a_run_of_the_copy_changes_nothing_that_the_model_holds():
    model = Uncopyable()
    model(torch.randn(2, 4))
    states: list[Any] = [model.generators[0].get_state(), model.generators[1].getstate()]
    previous = model.cache["previous"]
    copy: Any = bare_copy(model).eval()
    with isolated(copy):
        copy(torch.randn(3, 4))
    assert torch.equal(model.generators[0].get_state(), states[0])
    assert model.generators[1].getstate() == states[1]
    assert model.cache["previous"] is previous
    assert (model.calls, copy.calls, model.training) == ([2], [2, 3], True)
    assert copy.same[0] is copy.layer is copy.same[1]["again"]
    assert copy.lock is model.lock


def test_hooks_of_the_user_do_not_run():
    model, calls = plain(), []
    model[0].register_forward_hook(lambda *_: calls.append("forward"))
    model.register_forward_pre_hook(lambda *_: calls.append("before"))
    copy: Any = bare_copy(model).eval()
    with isolated(copy):
        copy(torch.randn(3, 4))
    assert not calls
    copy.register_forward_hook(lambda *_: None)
    assert not model._forward_hooks


def test_synchronised_norms_wait_for_no_rank():
    copy = bare_copy(nn.Sequential(nn.SyncBatchNorm(4)))
    with isolated(copy):
        output = copy(torch.randn(64, 4))
    assert output.mean().abs() < 1e-5


class State:
    packed = False


class PackedWeight(nn.Parameter):
    """Codes and their state, as bitsandbytes keeps them."""

    state: State


class Repacks(nn.Module):
    """Gives its weight other numbers when it runs in eval mode, and notes it in the state."""

    def __init__(self):
        super().__init__()
        self.weight = PackedWeight(torch.arange(9.0).view(3, 3), requires_grad=False)
        self.weight.state = self.state = State()

    def forward(self, inputs):
        if not self.training and not self.weight.state.packed:
            self.weight.data = self.weight.data.t().contiguous()
            self.weight.state.packed = True
        return inputs @ (self.weight.t() if self.state.packed else self.weight)


class Constrained(nn.Module):
    """Bounds the norm of its weight before each use."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((3, 3), 5.0))

    def forward(self, inputs):
        self.weight.data = torch.renorm(self.weight.data, p=2, dim=0, maxnorm=1.0)
        return inputs @ self.weight


@pytest.mark.parametrize("build", [Repacks, Constrained])
def test_a_module_that_exchanges_its_weights_numbers_exchanges_the_copys_alone(build):
    model, inputs = build(), torch.randn(4, 3)
    before, memory = model.weight.detach().clone(), model.weight.data_ptr()
    copy: Any = bare_copy(model).eval()
    with isolated(copy):
        output = copy(inputs)
    assert type(copy.weight) is type(model.weight)
    assert model.weight.data_ptr() == memory
    assert torch.equal(model.weight, before)
    assert not getattr(getattr(model, "state", None), "packed", False)
    torch.testing.assert_close(output, model(inputs).detach())


class Writes(nn.Module):
    """Renormalises its weight as it runs."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 3))

    def forward(self, inputs):
        with torch.no_grad():
            self.weight.view(9)[0].mul_(2)
        return inputs @ self.weight


def test_a_model_that_writes_into_its_weights_is_stopped_before_it_does():
    model = Writes()
    copy = bare_copy(model)
    with pytest.raises(CannotCopyError, match="writes into its weights"), isolated(copy):
        copy(torch.ones(2, 3))
    assert torch.equal(model.weight, torch.ones(3, 3))


def large_buffer():
    model = nn.Linear(2, 2)
    model.register_buffer("queue", torch.empty(2**24 + 1))
    return model


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: nn.Linear(2, 2, device="meta"), "meta device"),
        (lambda: nn.LazyLinear(2), "no shape yet"),
        (lambda: torch.jit.script(nn.Linear(2, 2)), "ScriptModule"),
        (lambda: nn.Sequential(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))), "ScriptModule"),
        (large_buffer, "too large"),
    ],
    ids=["meta", "lazy", "scripted", "traced", "buffer"],
)
@pytest.mark.filterwarnings("ignore")
def test_the_error_names_what_cannot_be_copied(build, reason):
    with pytest.raises(CannotCopyError, match=reason):
        bare_copy(build())


def test_large_integers_are_shared():
    model = nn.Linear(2, 2)
    model.register_buffer("codes", torch.zeros(2**27, dtype=torch.uint8))  # takes no memory: zeros
    assert bare_copy(model).codes is model.codes


class Closures(nn.Module):
    """Calls its layers through functions that hold them, as minGPT's blocks do."""

    def __init__(self, kind):
        super().__init__()
        layers: Any = nn.ModuleDict({"first": nn.Linear(4, 4), "drop": nn.Dropout(0.5)})
        self.layers: Any = layers
        if kind == "lambda":
            self.call = lambda x: layers.drop(layers.first(x))
        elif kind == "nested":
            inner = lambda x: layers.first(-x)  # noqa: E731
            self.call = lambda x: layers["drop"](inner(x))
        else:

            def call(x, times=1):
                out = layers.drop(layers.first(x))
                return call(out, times - 1) if times else out

            self.call = call

    def forward(self, x):
        return self.call(x)


@pytest.mark.parametrize("kind", ["lambda", "nested", "recursive"])
def test_layers_in_a_closure_are_the_copys(kind):
    model = Closures(kind).train()
    copy, x = bare_copy(model).eval(), torch.ones(3, 4)
    assert torch.equal(copy(x), copy(x))
    assert model.layers.drop.training
    assert not torch.equal(model(x), model(x))
    with torch.no_grad():
        model.layers.first.weight.zero_()  # the weights are shared
        model.layers.first.bias.zero_()
    assert copy(x).abs().max() == 0
