"""Muon: momentum, orthogonalised matrix by matrix before each step.

An update with equal singular values moves every direction of a layer alike, while a few
directions dominate the raw momentum. It keeps one buffer per weight, half of Adam's.
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

from thalweg.optim.compiler_free import compiler_free

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # a quintic that is steep at 0 and near 1 on [0.7, 1.2]
NEWTON_SCHULZ_STEPS = 5
MAX_GRAM_STEPS, LONG = 3, 2  # iterate on X Xᵀ up to so many steps, from this aspect ratio on
ADAM_RMS = 0.2  # typical root mean square of an AdamW update, so that one lr suits both groups
ADAM_BETAS = (0.9, 0.95)
EPS = 1e-8
EMBEDDING = "embedding.weight"  # the end of the name of a table of tokens
SGD_MOMENTUM = 0.85  # for the groups that SGD steps, as in the CIFAR-10 speed records


class Muon(torch.optim.Optimizer):
    """Each group has a `rule`: "orthogonal" or "unit" for matrices and filters, "adamw", "sgd".

    "unit" rescales each matrix to the norm √rows before the step, whose norm then is at most
    lr · √rows: lr is the share of the matrix that changes, and weight decay has no effect.
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
        by_shape: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        lr, momentum, is_unit = group["lr"], group["momentum"], group["rule"] == "unit"
        for weight in weights:
            weight.mul_(sqrt(len(weight)) / weight.norm() if is_unit else _decay_factor(group))
            gradient = _gradient(weight)
            buffer = self._buffer(weight, "momentum").lerp_(gradient, 1 - momentum)
            matrix = _in_memory_order(gradient.lerp(buffer, momentum)).flatten(1)
            by_shape[tuple(matrix.shape)].append((weight, matrix))
        for shape, members in by_shape.items():
            updates = orthogonal_factor(
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
            weight.mul_(_decay_factor(group))
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


def orthogonal_factor(
    matrices: Float[Tensor, "matrix row column"],
    *,
    steps: int = NEWTON_SCHULZ_STEPS,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "matrix row column"]:
    """Approximate U Vᵀ of each matrix U S Vᵀ by Newton–Schulz iteration.

    Singular values end between 0.7 and 1.2; a matrix of zeros stays zero. Cost: products in
    `dtype`; bfloat16, which PyTorch's Muon uses, is exact enough for so rough a result.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)  # all singular values ≤ 1
    x = x.to(dtype or x.dtype)
    on_gram = x.shape[2] > LONG * x.shape[1] and 0 < steps <= MAX_GRAM_STEPS
    x = _iterate_on_gram(x, steps) if on_gram else _iterate(x, steps)
    return (x.mT if tall else x).to(matrices.dtype)


def _iterate(x: Tensor, steps: int) -> Tensor:
    for _ in range(steps):
        x = _factor(x @ x.mT) @ x
    return x


def _iterate_on_gram(x: Tensor, steps: int) -> Tensor:
    """Return the same as `_iterate`, faster for few steps on long matrices.

    Every step is a polynomial of X Xᵀ, so X itself is needed only at the start and the end: two
    products of the long side instead of two a step. 512 × 4608, three steps in bfloat16: 83 → 40 ms
    of one core (Zen 4, torch 2.13). More steps would amplify the rounding errors of singular values
    near zero, whose squares may be negative in X Xᵀ.
    """
    gram = x @ x.mT
    product = factor = _factor(gram)
    for _ in range(steps - 1):
        gram = factor @ gram @ factor
        factor = _factor(gram)
        product = factor @ product
    return product @ x


def _factor(gram: Tensor) -> Tensor:
    """a I + b G + c G², which a step multiplies X by, where G = X Xᵀ."""
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
    """Train hidden matrices and convolution filters by Muon; the head, biases and norms by AdamW.

    The head is the last matrix: its rows are the classes, not directions to equalise. So are those
    of a table of tokens, named `embedding`: AdamW trains it, without decay.

    `unit_norm` keeps each hidden matrix at the norm √rows; lr is then the share of it that a step
    changes. `head_rate` and `bias_rate`, unless 0, train the head, and biases and norms, by SGD
    with momentum 0.85 at that multiple of lr, decaying by lr · weight_decay a step.
    `frozen_bias_share` is the part of the training, from its start, in which biases of layers with
    frozen weights are trained.
    """
    named = [(name, weight) for name, weight in named_weights]
    weights = [weight for _, weight in named if weight.requires_grad]
    tables = [w for name, w in named if name.endswith(EMBEDDING) and w.requires_grad]
    matrices = [w for w in weights if w.ndim >= 2 and not any(w is table for table in tables)]
    early = _biases_of_frozen_layers(named) if frozen_bias_share < 1 else []
    vectors = [w for w in weights if w.ndim < 2 and not any(w is other for other in early)]
    head = _non_matrix_options(head_rate, lr, weight_decay)
    bias = _non_matrix_options(bias_rate, lr, weight_decay if bias_rate else 0.0)
    groups: list[dict[str, Any]] = [
        {"name": "weights", "params": matrices[:-1], "rule": "unit" if unit_norm else "orthogonal"},
        {"name": "head", "params": matrices[-1:], **head},
        {"name": "embeddings", "params": tables, "rule": "adamw", "weight_decay": 0.0},
        {"name": "biases and norms", "params": vectors, **bias},
        {"name": "early biases", "params": early, "until": frozen_bias_share, **bias},
    ]
    groups = [{"weight_decay": weight_decay} | group for group in groups if group["params"]]
    return compiler_free(Muon)(
        groups, lr=lr, momentum=momentum, newton_schulz_steps=newton_schulz_steps
    )


def _in_memory_order(weight: Tensor) -> Tensor:
    """A view whose rows flatten without a copy; the order of columns does not matter."""
    channels_last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return weight.permute(0, 2, 3, 1) if channels_last else weight


def _non_matrix_options(rate: float, lr: float, weight_decay: float) -> dict[str, Any]:
    """Options of a group without matrices: SGD at `rate` times lr, or AdamW for rate 0."""
    if not rate:
        return {"rule": "adamw", "weight_decay": weight_decay}
    return {"rule": "sgd", "lr": rate * lr, "weight_decay": weight_decay / rate}


def _biases_of_frozen_layers(named: list[tuple[str, nn.Parameter]]) -> list[nn.Parameter]:
    """Trainable biases of layers whose filters or matrices are frozen."""
    frozen = {name for name, weight in named if weight.ndim >= 2 and not weight.requires_grad}
    return [
        weight
        for name, weight in named
        if weight.requires_grad
        and name.endswith("bias")
        and f"{name.removesuffix('bias')}weight" in frozen
    ]


def _decay_factor(group: dict[str, Any]) -> float:
    """The factor by which decoupled weight decay shrinks a weight."""
    return 1 - group["lr"] * group["weight_decay"]


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad
