"""Products with the Hessian and the Gauss–Newton matrix of a surface."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.graph import Node

from thalweg.curvature.faults import CurvatureError, NotTwiceDifferentiableError
from thalweg.curvature.graph import custom_nodes, dead_end, graph_bytes
from thalweg.curvature.operators import Operator
from thalweg.curvature.portions import Portion, rows
from thalweg.curvature.surface import Surface
from thalweg.errors import UsageError
from thalweg.memory import available_bytes

Graph = Literal["auto", "keep", "rebuild"]
SMALL_PART = 128  # samples: 0.142 s a product against 0.177 s with 512 on a small CNN
SMALL_GRAPH = (
    32 << 20
)  # bytes that a CPU walks fast: 0.125 s a product in four, 0.141 s in one of 108 MB
SAME_LOSS = 1e-5
MEMORY_SHARE = 0.5  # of what is free: a second graph of the user's own must still fit
UNEXPLORED_STEP = 1e-3  # relative to ‖w‖: how far a "constant" gradient is followed to check it


@runtime_checkable
class Pull(Protocol):
    """The product of one batch with a vector in the weights' shapes, and the graph behind it."""

    roots: list[Tensor]

    def __call__(self, vectors: list[Tensor], /) -> list[Tensor]: ...


Build = Callable[[Surface, Portion], Pull]


def hessian(
    surface: Surface, *, graph: Graph = "auto", portions: Sequence[Portion] | None = None
) -> Operator:
    """Products with ∂²loss/∂w², by differentiating the gradient once more (Pearlmutter 1994).

    `graph` is where the time goes. "keep" builds the gradient's graph once per batch and walks it
    for each product: a product then costs about one gradient. "rebuild" computes it anew: about
    two, in the memory of a part of a batch. "auto" measures the first batch's graph and keeps all
    graphs if they fit in half of the memory that is free. `portions` are other data at the same
    weights.

    Raises: NotTwiceDifferentiableError, naming the operation.
    """
    return _operator(surface, _HessianPull, portions or surface.portions, graph=graph)


def gauss_newton(surface: Surface, *, graph: Graph = "auto") -> Operator:
    """Products with JᵀH_LJ: the Hessian less the curvature of the network itself; never negative
    for a convex loss. J is the Jacobian of what the model returns (a tensor), H_L the Hessian of
    the loss in it. `graph` as for `hessian`.

    Source: Schraudolph 2002, "Fast curvature matrix-vector products".
    """
    return _operator(surface, _GaussNewtonPull, surface.portions, graph=graph)


def _operator(
    surface: Surface, build: Build, portions: Sequence[Portion], *, graph: Graph
) -> Operator:
    kept: list[Pull] = []
    if graph != "rebuild":
        kept, portions = _kept_pulls(surface, build, portions, force=graph == "keep")
    if not kept:
        count = sum(-(-rows(portion.targets) // SMALL_PART) for portion in portions)
        portions = _in_parts(surface, portions, count)

    def multiply(vector: Tensor) -> Tensor:
        parts = surface.split(vector)
        total: Tensor | None = None
        pulls = kept or (build(surface, portion) for portion in portions)
        for pull, portion in zip(pulls, portions, strict=True):
            product = surface.flat(pull(parts))
            weighted = product if portion.share == 1 else product * portion.share
            total = weighted if total is None else total.add_(weighted)
        assert total is not None
        return total

    return Operator(multiply, surface.size, surface.dtype, surface.device)


def _kept_pulls(
    surface: Surface, build: Build, portions: Sequence[Portion], *, force: bool
) -> tuple[list[Pull], Sequence[Portion]]:
    """Pulls with their graphs held and the portions they are of; no pulls if memory is too small.

    On a CPU a large graph is held in parts: walking it then stays in the cache.
    """
    first = build(surface, portions[0])
    share, held = portions[0].share, graph_bytes(first.roots)
    # the held graphs, and as much again as one of them for the walk through it
    if not force and held * (1 / share + 1) > MEMORY_SHARE * available_bytes(surface.device):
        return [], portions
    if surface.device.type == "cpu" and held > SMALL_GRAPH:
        parts = _in_parts(surface, portions, len(portions) * -(-held // SMALL_GRAPH))
        if parts is not portions:
            del first
            return [build(surface, part) for part in parts], parts
    return [first, *(build(surface, portion) for portion in portions[1:])], portions


def _in_parts(surface: Surface, portions: Sequence[Portion], count: int) -> Sequence[Portion]:
    """The same data in at least so many parts, where the loss is a mean over samples.

    Not so where the samples of a batch meet, as in a contrastive loss: the losses tell.
    """
    parts = surface.groups(count, portions)
    if len(parts) == len(portions):
        return portions
    whole, cut = surface.loss(portions), surface.loss(parts)
    return parts if abs(whole - cut) <= SAME_LOSS * abs(whole) else portions


class _HessianPull:
    """The product of one batch, through the graph of its gradient."""

    def __init__(self, surface: Surface, portion: Portion) -> None:
        self.leaves = surface.leaves
        loss = surface.batch_loss(portion)
        first = portion is surface.portions[0]
        with _custom_functions_watched(loss if first else None):
            gradients = _differentiate(loss, self.leaves)
        live = [g.requires_grad for g in gradients]
        if not any(live):
            _refuse_hidden_curvature(surface, portion)
        self.roots = [g for g, on in zip(gradients, live, strict=True) if on]
        self.live = live
        if first and dead_end(self.roots):
            raise _marked_once_differentiable(loss)

    def __call__(self, vectors: list[Tensor]) -> list[Tensor]:
        if not self.roots:  # a loss linear in all weights
            return [torch.zeros_like(leaf) for leaf in self.leaves]
        chosen = [v for v, on in zip(vectors, self.live, strict=True) if on]
        return _second_derivative(self.roots, self.leaves, chosen)


class _GaussNewtonPull:
    """J and its transpose from one graph of the outputs: J v is the derivative of Jᵀu in u."""

    def __init__(self, surface: Surface, portion: Portion) -> None:
        self.leaves = surface.leaves
        self.outputs = surface.outputs(portion)
        if not isinstance(self.outputs, Tensor):
            raise UsageError(
                "the Gauss–Newton matrix needs a model that returns one tensor",
                seen=type(self.outputs).__name__,
                fix="wrap the model so that it returns its logits alone, or use the Hessian",
            )
        self.probe = torch.zeros_like(self.outputs, requires_grad=True)
        pulled = torch.autograd.grad(
            self.outputs,
            self.leaves,
            self.probe,
            create_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        self.live = [p.requires_grad for p in pulled]
        self.roots = [p for p, on in zip(pulled, self.live, strict=True) if on]
        self.inner = self.outputs.detach().requires_grad_()
        (self.slope,) = _differentiate(surface.loss_of(self.inner, portion), [self.inner])

    def __call__(self, vectors: list[Tensor]) -> list[Tensor]:
        chosen = [v for v, on in zip(vectors, self.live, strict=True) if on]
        if not chosen or not self.slope.requires_grad:  # no output moves, or a loss linear in them
            return [torch.zeros_like(leaf) for leaf in self.leaves]
        (pushed,) = _second_derivative(self.roots, [self.probe], chosen)
        (curved,) = _second_derivative([self.slope], [self.inner], [pushed])
        return _second_derivative([self.outputs], self.leaves, [curved])


def _differentiate(loss: Tensor, leaves: Any) -> tuple[Tensor, ...]:
    try:
        return torch.autograd.grad(
            loss, leaves, create_graph=True, allow_unused=True, materialize_grads=True
        )
    except RuntimeError as error:
        raise _not_differentiable(error, order="a first derivative") from error


def _second_derivative(roots: list[Tensor], leaves: Any, vectors: list[Tensor]) -> list[Tensor]:
    try:
        return list(
            torch.autograd.grad(
                roots, leaves, vectors, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise _not_differentiable(error, order="a second derivative") from error


def _not_differentiable(error: RuntimeError, *, order: str) -> CurvatureError:
    return NotTwiceDifferentiableError(
        f"the loss has no usable {order.removeprefix('a ')} in torch",
        seen=str(error).splitlines()[0],
        fix="replace the operation named above by plain torch operations (a custom "
        "autograd.Function needs a backward that is differentiable itself; a fused kernel has "
        "an unfused equivalent), or leave its weights out: weights=[...]",
    )


def _marked_once_differentiable(loss: Tensor) -> NotTwiceDifferentiableError:
    return NotTwiceDifferentiableError(
        "part of the loss refuses a second derivative: torch would take it for zero",
        seen="a custom autograd.Function marked @once_differentiable, among: "
        + ", ".join(sorted({_name(node) for node in custom_nodes(loss)})),
        fix="write its backward with differentiable torch operations and drop the mark, or "
        "leave the weights before it out: weights=[...]",
    )


@contextmanager
def _custom_functions_watched(loss: Tensor | None) -> Iterator[None]:
    """Refuses a custom function whose backward loses the graph: its curvature would be missing."""
    lossy: list[str] = []
    handles = [
        node.register_hook(partial(_note_loss, lossy=lossy, name=_name(node)))
        for node in (custom_nodes(loss) if loss is not None else ())
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if lossy:
        raise NotTwiceDifferentiableError(
            f"the backward of {lossy[0]} hides how its gradient depends on the weights",
            seen="a gradient that came with a graph and left without one",
            fix="write that backward with differentiable torch operations: no numpy, .data, "
            ".detach() or .item() in it",
        )


def _note_loss(out: Any, given: Any, *, lossy: list[str], name: str) -> None:
    given, out = ([t for t in side if t is not None] for side in (given, out))
    graphless = bool(out) and not any(tensor.requires_grad for tensor in out)
    if graphless and any(t.requires_grad for t in given) and any(bool(t.any()) for t in out):
        lossy.append(name)


def _name(node: Node) -> str:
    return node.name().removesuffix("Backward")


def _refuse_hidden_curvature(surface: Surface, portion: Portion) -> None:
    """A gradient without a graph is either constant, or its operation hides the dependence."""
    here, point = surface.batch_gradient(portion), surface.point
    step = torch.randn(
        surface.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).to(point)
    surface.move(point + step * UNEXPLORED_STEP * point.norm().clamp_min(1.0) / step.norm())
    there = surface.batch_gradient(portion)
    surface.move(point)
    if float((there - here).norm()) > 1e-6 * float(here.norm()):
        raise NotTwiceDifferentiableError(
            "the gradient depends on the weights, but torch does not know how",
            seen="a gradient that changes with the weights and yet has no graph",
            fix="some custom autograd.Function computes its backward outside torch (numpy, "
            ".data, .detach()): write that backward with differentiable torch operations",
        )


def loss_and_gradient(surface: Surface) -> tuple[float, Float[Tensor, " weights"]]:
    """Mean loss and its gradient from one pass over the batches."""
    total, value = torch.zeros(surface.size, dtype=surface.dtype, device=surface.device), 0.0
    for portion in surface.portions:
        loss = surface.batch_loss(portion)
        gradients = torch.autograd.grad(
            loss, surface.leaves, allow_unused=True, materialize_grads=True
        )
        total.add_(surface.flat(gradients), alpha=portion.share)
        value += float(loss.detach()) * portion.share
    return value, total
