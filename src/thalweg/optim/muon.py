"""Muon: momentum whose matrices are made orthogonal before each step.

An update of all-equal singular values moves every direction of a layer alike, where the raw
momentum of a matrix is dominated by a few. It keeps one buffer a weight, half of Adam's.
Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; the scale of the update:
Liu et al. 2025, https://arxiv.org/abs/2502.16982, equation 4. Matrices of constant norm, three
steps, and SGD for the rest: airbench94_muon, https://github.com/KellerJordan/cifar10-airbench.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from math import sqrt
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.optim.lean import lean

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # a quintic that is steep at 0 and near 1 on [0.7, 1.2]
NEWTON_SCHULZ_STEPS = 5
FEW, LONG = 3, 2  # steps and, of a matrix, length to height, from which on X Xᵀ is stepped
ADAM_RMS = 0.2  # typical root mean square of an AdamW update, so that one lr suits both groups
ADAM_BETAS = (0.9, 0.95)
EPS = 1e-8
SGD_MOMENTUM = 0.85  # of what is left to SGD, as the CIFAR-10 speed records have it


class Muon(torch.optim.Optimizer):
    """Each group has a `rule`: "orthogonal" or "unit" for matrices and filters, "adamw", "sgd".

    "unit" brings each matrix to the norm √rows before the step, whose size then is lr · √rows at
    most: lr is the share of the matrix that changes, and weight decay has no meaning.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        newton_schulz_steps: int = NEWTON_SCHULZ_STEPS,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "rule": "adamw"})
        self.newton_schulz_steps, self.dtype = newton_schulz_steps, dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        rules = {"adamw": self._step_adam, "sgd": self._step_sgd}
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            rules.get(group["rule"], self._step_orthogonal)(weights, group)
        return loss

    def _step_orthogonal(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Nesterov momentum, then one batch of matrix products for all matrices of one shape."""
        alike: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        lr, momentum, is_unit = group["lr"], group["momentum"], group["rule"] == "unit"
        for weight in weights:
            weight.mul_(sqrt(len(weight)) / weight.norm() if is_unit else _kept(group))
            gradient = _gradient(weight)
            buffer = self._buffer(weight, "momentum").lerp_(gradient, 1 - momentum)
            matrix = _in_memory_order(gradient.lerp(buffer, momentum)).flatten(1)
            alike[tuple(matrix.shape)].append((weight, matrix))
        for shape, members in alike.items():
            updates = orthogonalised(
                torch.stack([matrix for _, matrix in members]),
                steps=self.newton_schulz_steps,
                dtype=self.dtype,
            )
            scale = lr * (1.0 if is_unit else ADAM_RMS * sqrt(max(shape)))
            for (weight, _), update in zip(members, updates, strict=True):
                ordered = _in_memory_order(weight)
                ordered.sub_(update.view(ordered.shape), alpha=scale)

    def _step_adam(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        slow, fast = ADAM_BETAS[1], ADAM_BETAS[0]
        for weight in weights:
            weight.mul_(_kept(group))
            gradient = _gradient(weight)
            mean = self._buffer(weight, "mean").lerp_(gradient, 1 - fast)
            square = self._buffer(weight, "square").lerp_(gradient.square(), 1 - slow)
            steps = self.state[weight]["step"] = self.state[weight].get("step", 0) + 1
            size = (square / (1 - slow**steps)).sqrt_().add_(EPS)
            weight.addcdiv_(mean, size, value=-group["lr"] / (1 - fast**steps))

    def _step_sgd(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Nesterov momentum; the decay is a part of the gradient."""
        for weight in weights:
            gradient = _gradient(weight).add(weight, alpha=group["weight_decay"])
            buffer = self._buffer(weight, "momentum").mul_(SGD_MOMENTUM).add_(gradient)
            weight.sub_(gradient.add_(buffer, alpha=SGD_MOMENTUM), alpha=group["lr"])

    def _buffer(self, weight: Tensor, name: str) -> Tensor:
        state = self.state[weight]
        if name not in state:
            state[name] = torch.zeros_like(weight)
        return state[name]


def orthogonalised(
    matrices: Float[Tensor, "matrix row column"],
    *,
    steps: int = NEWTON_SCHULZ_STEPS,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "matrix row column"]:
    """U Vᵀ of each matrix U S Vᵀ, roughly: singular values end between 0.7 and 1.2.

    Cost: products in `dtype`: bfloat16 is exact enough for what is rough anyway, and PyTorch's
    own. Few steps for long matrices X are taken on X Xᵀ, the rest on X. A matrix of zeros stays
    one.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)  # all singular values ≤ 1
    x = x.to(dtype or x.dtype)
    is_long = x.shape[2] > LONG * x.shape[1]
    x = _stepped_by_gram(x, steps) if is_long and 0 < steps <= FEW else _stepped(x, steps)
    return (x.mT if tall else x).to(matrices.dtype)


def _stepped(x: Tensor, steps: int) -> Tensor:
    for _ in range(steps):
        x = _factor(x @ x.mT) @ x
    return x


def _stepped_by_gram(x: Tensor, steps: int) -> Tensor:
    """The same: every step is a polynomial of X Xᵀ, so X itself is needed at both ends alone.

    Two products of the long side in place of two a step. 512 × 4608, three steps in bfloat16: 83 →
    40 ms of one core (Zen 4, torch 2.13). More steps would raise what rounding leaves of values
    near zero, which may be negative in X Xᵀ.
    """
    gram = x @ x.mT
    whole = factor = _factor(gram)
    for _ in range(steps - 1):
        gram = factor @ gram @ factor
        factor = _factor(gram)
        whole = factor @ whole
    return whole @ x


def _factor(gram: Tensor) -> Tensor:
    """a I + b G + c G²: what a step multiplies X by, where G = X Xᵀ."""
    a, b, c = NEWTON_SCHULZ
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor


def muon(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    newton_schulz_steps: int = NEWTON_SCHULZ_STEPS,
    unit_norm: bool = False,
    head_rate: float = 0.0,
    bias_rate: float = 0.0,
    frozen_bias_share: float = 1.0,
) -> Muon:
    """Muon for hidden matrices and convolution filters; AdamW for the head, biases and norms.

    The head is the last matrix: its rows are the classes, which are no directions to be equalised.

    `unit_norm` keeps each hidden matrix at the norm √rows; lr is then the share of it that a step
    changes. `head_rate` and `bias_rate`, where not 0, are how many times lr is the rate of the head
    and of biases and norms, which are then left to SGD, momentum 0.85, and all decay by lr ·
    weight_decay a step. `frozen_bias_share` is the part of the training, from its beginning, in
    which biases of layers with frozen weights are trained.
    """
    named = [(name, weight) for name, weight in named_weights]
    weights = [weight for _, weight in named if weight.requires_grad]
    matrices = [weight for weight in weights if weight.ndim >= 2]
    early = _biases_of_frozen(named) if frozen_bias_share < 1 else []
    vectors = [w for w in weights if w.ndim < 2 and not any(w is other for other in early)]
    head = _left(head_rate, lr, weight_decay)
    bias = _left(bias_rate, lr, weight_decay if bias_rate else 0.0)
    groups: list[dict[str, Any]] = [
        {"name": "weights", "params": matrices[:-1], "rule": "unit" if unit_norm else "orthogonal"},
        {"name": "head", "params": matrices[-1:], **head},
        {"name": "biases and norms", "params": vectors, **bias},
        {"name": "early biases", "params": early, "until": frozen_bias_share, **bias},
    ]
    filled = [{"weight_decay": weight_decay} | group for group in groups if group["params"]]
    return lean(Muon)(filled, lr=lr, momentum=momentum, newton_schulz_steps=newton_schulz_steps)


def _in_memory_order(weight: Tensor) -> Tensor:
    """A view whose rows can be flattened without a copy; the order of columns changes nothing."""
    by_pixel = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return weight.permute(0, 2, 3, 1) if by_pixel else weight


def _left(rate: float, lr: float, weight_decay: float) -> dict[str, Any]:
    """What a group has that is no matrix's: SGD at `rate` times lr, or AdamW."""
    if not rate:
        return {"rule": "adamw", "weight_decay": weight_decay}
    return {"rule": "sgd", "lr": rate * lr, "weight_decay": weight_decay / rate}


def _biases_of_frozen(named: list[tuple[str, nn.Parameter]]) -> list[nn.Parameter]:
    """Trainable biases of layers whose filters or matrices are not trained."""
    frozen = {name for name, weight in named if weight.ndim >= 2 and not weight.requires_grad}
    return [
        weight
        for name, weight in named
        if weight.requires_grad
        and name.endswith("bias")
        and f"{name.removesuffix('bias')}weight" in frozen
    ]


def _kept(group: dict[str, Any]) -> float:
    """The share of a weight that decoupled decay leaves."""
    return 1 - group["lr"] * group["weight_decay"]


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad
