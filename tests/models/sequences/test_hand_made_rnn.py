"""The network of two ones in a row, set by hand, as torch's, and learned."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.models.sequences.hand_made_rnn import HandMadeRNN


def bits(text):
    return torch.tensor([[float(bit) for bit in text]])


def two_ones(inputs):
    return inputs * F.pad(inputs[:, :-1], (1, 0))


def test_it_finds_two_ones_in_a_row():
    assert torch.equal(HandMadeRNN()(bits("010111011")), bits("000011001"))


def test_it_is_right_on_every_text_of_ten_bits():
    numbers = torch.arange(2**10)
    inputs = (numbers[:, None] >> torch.arange(10) & 1).float()
    assert torch.equal(HandMadeRNN()(inputs), two_ones(inputs))


def test_it_equals_torchs_recurrent_layer():
    ours = HandMadeRNN()
    theirs = nn.RNN(1, 3, nonlinearity="relu", bias=False, batch_first=True)
    theirs.load_state_dict({"weight_ih_l0": ours.w_xh, "weight_hh_l0": ours.w_hh})
    inputs = torch.randn(4, 9)
    states, _ = theirs(inputs[..., None], ours.first_state.expand(1, 4, 3).contiguous())
    torch.testing.assert_close(ours(inputs), F.relu(states @ ours.w_hy.T)[..., 0])


def test_gradients_through_time_are_those_of_the_unrolled_network():
    """Every step's own copy of the weights gets a share; the shares add up to the shared one's."""
    network, inputs = HandMadeRNN(), bits("0111")
    network(inputs).sum().backward()
    copies = [network.w_hh.detach().clone().requires_grad_() for _ in range(4)]
    state, total = network.first_state.detach()[None], torch.zeros(())
    for value, w_hh in zip(inputs[0], copies, strict=True):
        state = F.relu(state @ w_hh.T + value * network.w_xh.detach().T)
        total = total + F.relu(state @ network.w_hy.detach().T).sum()
    total.backward()
    torch.testing.assert_close(network.w_hh.grad, sum(copy.grad for copy in copies))


def test_a_recurrent_layer_learns_it_from_random_weights():
    torch.manual_seed(1)
    layer, head = nn.RNN(1, 8, nonlinearity="relu", batch_first=True), nn.Linear(8, 1)
    inputs = torch.randint(2, (64, 9)).float()
    optimizer = torch.optim.SGD([*layer.parameters(), *head.parameters()], lr=0.1, momentum=0.9)
    for _ in range(150):
        logits = head(layer(inputs[..., None])[0])[..., 0]
        loss = F.binary_cross_entropy_with_logits(logits, two_ones(inputs))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    logits = head(layer(bits("010111011")[..., None])[0])[..., 0]
    assert torch.equal((logits > 0).float(), bits("000011001"))


@pytest.mark.parametrize(("factor", "expected"), [(0.9, 0.9**50), (1.0, 1.0), (1.1, 1.1**50)])
def test_the_gradient_through_fifty_linear_steps_is_a_power_of_the_weight(factor, expected):
    """0.005, 1 and 117: it vanishes or explodes by the largest factor of each step."""
    first = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    state = first.expand(1, 4)
    for _ in range(50):
        state = state @ (factor * rotation).T
    gradient = torch.autograd.grad(state.norm(), first)[0]
    assert gradient.norm().item() == pytest.approx(expected * 2, rel=1e-9)  # ‖(1, 1, 1, 1)‖ = 2


def test_clipping_bounds_an_exploded_gradient_and_keeps_its_direction():
    weight = torch.full((2,), 1.5, requires_grad=True)
    (weight**50).sum().backward()
    before = weight.grad.clone()
    assert nn.utils.clip_grad_norm_([weight], 1.0) > 1e9
    torch.testing.assert_close(weight.grad, before / before.norm())
