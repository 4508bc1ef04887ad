"""What several calls of one layer measure is pooled, and gates are not called saturated."""

import pytest
import torch
from torch import nn

from thalweg.observe.operation_recorder import record_forward

B, T, D = 16, 5, 6


class Cell(nn.Module):
    """A recurrent network by hand: each layer is called once a step."""

    def __init__(self, *, gain=1.0):
        super().__init__()
        self.x, self.h, self.head = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, 2)
        self.act = nn.Tanh()
        self.gain = gain

    def forward(self, inputs):
        h = torch.zeros(len(inputs), D)
        for step in range(T):
            h = self.act(self.x(inputs[:, step]) * self.gain + self.h(h))
        return self.head(h)


class GatedCell(nn.Module):
    """An LSTM by hand; its gates are wide open or shut."""

    def __init__(self):
        super().__init__()
        self.gates, self.head = nn.Linear(2 * D, 4 * D), nn.Linear(D, 2)
        with torch.no_grad():
            self.gates.bias[: 3 * D] += 20.0

    def forward(self, inputs):
        h = c = torch.zeros(len(inputs), D)
        for step in range(T):
            gates = self.gates(torch.cat([inputs[:, step], h], 1))
            i, f, o = gates[:, : 3 * D].sigmoid().chunk(3, 1)
            c = f * c + i * gates[:, 3 * D :].tanh()
            h = o * c.tanh()
        return self.head(h)


class Loop(nn.Module):
    """Layers in a loop, with one function after each."""

    def __init__(self):
        super().__init__()
        layers = [nn.Linear(D, D) for _ in range(3)]
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(D, 2)
        with torch.no_grad():
            layers[1].bias.sub_(100.0)

    def forward(self, inputs):
        for layer in self.layers:
            inputs = torch.relu(layer(inputs))
        return self.head(inputs)


def test_calls_of_a_cell_are_one_place_with_the_pooled_spread():
    torch.manual_seed(0)
    model, inputs = Cell(), torch.randn(B, T, D)
    record = record_forward(model, (inputs,), {})
    assert list(record.stds) == ["x", "h", "head"]
    assert len(record.saturated) == 1
    spreads = torch.stack([model.x(inputs[:, step]).detach().var() for step in range(T)])
    assert float(record.stds["x"]) == pytest.approx(float(spreads.mean().sqrt()), rel=1e-5)


def test_a_saturated_cell_is_seen():
    torch.manual_seed(0)
    record = record_forward(Cell(gain=1e3), (torch.randn(B, T, D),), {})
    assert float(record.saturated["act"]) > 0.9


def test_gates_may_saturate():
    torch.manual_seed(0)
    record = record_forward(GatedCell(), (torch.randn(B, T, D),), {})
    assert max(float(share) for share in record.saturated.values()) < 0.5


def test_a_unit_is_dead_if_no_call_activates_it():
    """Each step activates another unit."""

    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.act, self.head = nn.Linear(T, T), nn.ReLU(), nn.Linear(T, 2)
            with torch.no_grad():
                self.layer.weight.copy_(torch.eye(T))
                self.layer.bias.fill_(-0.5)

        def forward(self, inputs):
            return sum(self.head(self.act(self.layer(one))) for one in inputs.unbind(1))

    steps = torch.eye(T).expand(B, T, T)
    assert float(record_forward(Steps(), (steps,), {}).dead["act"]) == 0.0
    assert float(record_forward(Steps(), (steps[:, :2],), {}).dead["act"]) == pytest.approx(0.6)


def test_layers_in_a_loop_stay_apart():
    torch.manual_seed(0)
    record = record_forward(Loop(), (torch.randn(B, D),), {})
    assert [round(float(share), 2) == 1.0 for share in record.dead.values()] == [False, True, False]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_have_one_place_a_weight(kind):
    torch.manual_seed(0)
    model = nn.Sequential(kind(D, D, batch_first=True))
    record = record_forward(model, (torch.randn(B, 40, D),), {})
    assert len(record.stds) <= 4
    assert len(record.saturated) <= 4


@pytest.mark.parametrize("shape", [(4,), (1, 4), (6, 4)])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Identity])
def test_activations_of_one_sample_count(shape, activation):
    """A sample without a batch dimension, as a condition that a network of weights takes."""
    model = nn.Sequential(nn.Linear(4, 8), activation(), nn.Linear(8, 3))
    record = record_forward(model, (torch.randn(shape),), {})
    assert len(record.nonlinearities) == 2
    assert record.nonlinearities[-1] == (activation is not nn.Identity)


class Branches(nn.Module):
    """A residual branch, an adapter beside a layer, and two maps of one size that are summed."""

    def __init__(self):
        super().__init__()
        self.stem, self.branch, self.head = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, 2)
        self.down, self.up = nn.Linear(D, 2), nn.Linear(2, D, bias=False)
        self.left, self.right = nn.Linear(D, D), nn.Linear(D, D)
        with torch.no_grad():
            self.branch.weight.mul_(1e-3)
            self.branch.bias.zero_()
            self.up.weight.zero_()

    def forward(self, inputs):
        stream = self.stem(inputs)
        stream = stream + self.up(self.down(stream)) * 2.0
        stream = stream + self.branch(stream.relu())
        return self.head(self.left(stream) + self.right(stream))


def test_of_a_branch_that_adds_next_to_nothing_the_sum_is_measured():
    torch.manual_seed(0)
    model, inputs = Branches(), torch.randn(B, D)
    record = record_forward(model, (inputs,), {})
    stream = model.stem(inputs)
    spreads = {"up": stream, "branch": stream + model.branch(stream.relu())}
    whole = spreads["branch"]
    spreads |= {"down": model.down(stream), "left": model.left(whole), "right": model.right(whole)}
    for name, result in spreads.items():
        assert float(record.stds[name]) == pytest.approx(float(result.detach().std()), rel=1e-4)


class EightBits(nn.Module):
    """Multiplies by codes, then by the scale of each row, as weights of eight bits do."""

    def __init__(self):
        super().__init__()
        scales = torch.full((D,), 1e-3)
        self.register_buffer("codes", torch.randint(-128, 128, (D, D)).to(torch.int8))
        self.register_buffer("scales", scales)
        self.head = nn.Linear(D, 2)

    def forward(self, inputs):
        return self.head((inputs @ self.codes.float().T) * self.scales)


def test_a_layers_own_scales_are_a_part_of_it():
    torch.manual_seed(0)
    record = record_forward(EightBits(), (torch.randn(B, D),), {})
    assert float(record.stds[""]) < 1
