"""Hessian-vector and Gauss–Newton-vector products of a surface."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.autograd.graph import Node

from thalweg.curvature.errors import CurvatureError, NotTwiceDifferentiableError
from thalweg.curvature.graph import custom_nodes, graph_bytes, refuses_second_derivative
from thalweg.curvature.operators import Operator
from thalweg.curvature.portions import Portion, num_samples
from thalweg.curvature.surface import Surface
from thalweg.errors import UsageError
from thalweg.memory import available_bytes

Graph = Literal["auto", "keep", "rebuild"]
SMALL_PART = 128  # samples: a product takes 0.142 s, with 512 0.177 s, on a small CNN
SMALL_GRAPH = 32 << 20  # bytes; on a CPU four such graphs take 0.125 s, one of 108 MB 0.141 s
SAME_LOSS = 1e-5
MEMORY_SHARE = 0.5  # of free memory: a second graph, the user's own, must still fit
CHECK_STEP = 1e-3  # relative to ‖w‖: distance at which a "constant" gradient is checked


@runtime_checkable
class BatchProduct(Protocol):
    """The product of one batch with a vector in the weights' shapes, and its graph."""

    roots: list[Tensor]

    def __call__(self, vectors: list[Tensor], /) -> list[Tensor]: ...


Build = Callable[[Surface, Portion], BatchProduct]


def hessian(
    surface: Surface, *, graph: Graph = "auto", portions: Sequence[Portion] | None = None
) -> Operator:
    """Products with ∂²loss/∂w², by differentiating the gradient once more (Pearlmutter 1994).

    `graph` trades memory for time. "keep" builds the gradient's graph once per batch and walks it
    for each product, which then costs about one gradient. "rebuild" computes it anew: about two
    gradients, in the memory of a part of a batch. "auto" measures the first batch's graph and keeps
    all graphs if they fit into half of the free memory. `portions` are other data at the same
    weights.

    Raises: NotTwiceDifferentiableError, which names the operation.
    """
    return _operator(surface, _HessianProduct, portions or surface.portions, graph=graph)


def gauss_newton(surface: Surface, *, graph: Graph = "auto") -> Operator:
    """Products with JᵀH_LJ: the Hessian without the curvature of the network itself.

    It is never negative for a convex loss. J is the Jacobian of the model's output (a tensor), H_L
    the Hessian of the loss with respect to it. `graph` as for `hessian`.

    Source: Schraudolph 2002, "Fast curvature matrix-vector products".
    """
    return _operator(surface, _GaussNewtonProduct, surface.portions, graph=graph)


def _operator(
    surface: Surface, build: Build, portions: Sequence[Portion], *, graph: Graph
) -> Operator:
    cached: list[BatchProduct] = []
    if graph != "rebuild":
        cached, portions = _build_cached(surface, build, portions, force=graph == "keep")
    if not cached:
        count = sum(-(-num_samples(portion.targets) // SMALL_PART) for portion in portions)
        portions = _split_portions(surface, portions, count)

    def multiply(vector: Tensor) -> Tensor:
        parts = surface.split(vector)
        total: Tensor | None = None
        products = cached or (build(surface, portion) for portion in portions)
        for batch_product, portion in zip(products, portions, strict=True):
            product = surface.flat(batch_product(parts))
            weighted = product if portion.share == 1 else product * portion.share
            total = weighted if total is None else total.add_(weighted)
        assert total is not None
        return total

    return Operator(multiply, surface.size, surface.dtype, surface.device)


def _build_cached(
    surface: Surface, build: Build, portions: Sequence[Portion], *, force: bool
) -> tuple[list[BatchProduct], Sequence[Portion]]:
    """Build the graphs of all portions once; none if memory is too small for them.

    On a CPU a large graph is split into parts: walking one then stays in the cache.
    """
    first = build(surface, portions[0])
    share, size = portions[0].share, graph_bytes(first.roots)
    # the cached graphs, and as much again as one of them to walk through it
    if not force and size * (1 / share + 1) > MEMORY_SHARE * available_bytes(surface.device):
        return [], portions
    if surface.device.type == "cpu" and size > SMALL_GRAPH:
        parts = _split_portions(surface, portions, len(portions) * -(-size // SMALL_GRAPH))
        if parts is not portions:
            del first
            return [build(surface, part) for part in parts], parts
    return [first, *(build(surface, portion) for portion in portions[1:])], portions


def _split_portions(surface: Surface, portions: Sequence[Portion], count: int) -> Sequence[Portion]:
    """Split the data into at least `count` parts if the loss is a mean over samples.

    In a contrastive loss the samples of a batch interact: then the loss of the parts differs.
    """
    parts = surface.groups(count, portions)
    if len(parts) == len(portions):
        return portions
    loss, loss_of_parts = surface.loss(portions), surface.loss(parts)
    return parts if abs(loss - loss_of_parts) <= SAME_LOSS * abs(loss) else portions


class _HessianProduct:
    """The product of one batch, through the graph of its gradient."""

    def __init__(self, surface: Surface, portion: Portion) -> None:
        self.leaves = surface.leaves
        loss = surface.batch_loss(portion)
        first = portion is surface.portions[0]
        with _check_custom_functions(loss if first else None):
            gradients = _differentiate(loss, self.leaves)
        live = [g.requires_grad for g in gradients]
        if not any(live):
            _check_constant_gradient(surface, portion)
        self.roots = [g for g, on in zip(gradients, live, strict=True) if on]
        self.live = live
        if first and refuses_second_derivative(self.roots):
            raise _once_differentiable_error(loss)

    def __call__(self, vectors: list[Tensor]) -> list[Tensor]:
        if not self.roots:  # a loss linear in all weights
            return [torch.zeros_like(leaf) for leaf in self.leaves]
        vectors = [v for v, on in zip(vectors, self.live, strict=True) if on]
        return _second_derivative(self.roots, self.leaves, vectors)


class _GaussNewtonProduct:
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
        gradients = torch.autograd.grad(
            self.outputs,
            self.leaves,
            self.probe,
            create_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        self.live = [g.requires_grad for g in gradients]
        self.roots = [g for g, on in zip(gradients, self.live, strict=True) if on]
        self.inner = self.outputs.detach().requires_grad_()
        (self.slope,) = _differentiate(surface.loss_of(self.inner, portion), [self.inner])

    def __call__(self, vectors: list[Tensor]) -> list[Tensor]:
        vectors = [v for v, on in zip(vectors, self.live, strict=True) if on]
        # No vector: constant outputs. No graph: a loss that is linear in the outputs.
        if not vectors or not self.slope.requires_grad:
            return [torch.zeros_like(leaf) for leaf in self.leaves]
        (pushed,) = _second_derivative(self.roots, [self.probe], vectors)
        (curved,) = _second_derivative([self.slope], [self.inner], [pushed])
        return _second_derivative([self.outputs], self.leaves, [curved])


def _differentiate(loss: Tensor, leaves: Any) -> tuple[Tensor, ...]:
    try:
        return torch.autograd.grad(
            loss, leaves, create_graph=True, allow_unused=True, materialize_grads=True
        )
    except RuntimeError as error:
        raise _not_differentiable_error(error, order="a first derivative") from error


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
        raise _not_differentiable_error(error, order="a second derivative") from error


def _not_differentiable_error(error: RuntimeError, *, order: str) -> CurvatureError:
    return NotTwiceDifferentiableError(
        f"the loss has no usable {order.removeprefix('a ')} in torch",
        seen=str(error).splitlines()[0],
        fix="replace the operation named above by plain torch operations (a custom "
        "autograd.Function needs a backward that is differentiable itself; a fused kernel has "
        "an unfused equivalent), or leave its weights out: weights=[...]",
    )


def _once_differentiable_error(loss: Tensor) -> NotTwiceDifferentiableError:
    return NotTwiceDifferentiableError(
        "part of the loss refuses a second derivative: torch would treat it as zero",
        seen="a custom autograd.Function marked @once_differentiable, among: "
        + ", ".join(sorted({_name(node) for node in custom_nodes(loss)})),
        fix="write its backward with differentiable torch operations and drop the mark, or "
        "leave the weights before it out: weights=[...]",
    )


@contextmanager
def _check_custom_functions(loss: Tensor | None) -> Iterator[None]:
    """Refuse a custom function whose backward loses the graph: its curvature would be missing."""
    lossy: list[str] = []
    handles = [
        node.register_hook(partial(_record_lossy, lossy=lossy, name=_name(node)))
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


def _record_lossy(grad_inputs: Any, grad_outputs: Any, *, lossy: list[str], name: str) -> None:
    inputs, outputs = (
        [t for t in gradients if t is not None] for gradients in (grad_inputs, grad_outputs)
    )
    graphless = bool(inputs) and not any(tensor.requires_grad for tensor in inputs)
    if graphless and any(t.requires_grad for t in outputs) and any(bool(t.any()) for t in inputs):
        lossy.append(name)


def _name(node: Node) -> str:
    return node.name().removesuffix("Backward")


def _check_constant_gradient(surface: Surface, portion: Portion) -> None:
    """Check that a gradient without a graph is constant, not cut off from the weights."""
    gradient, point = surface.batch_gradient(portion), surface.point
    step = torch.randn(
        surface.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).to(point)
    surface.move(point + step * CHECK_STEP * point.norm().clamp_min(1.0) / step.norm())
    neighbour = surface.batch_gradient(portion)
    surface.move(point)
    if float((neighbour - gradient).norm()) > 1e-6 * float(gradient.norm()):
        raise NotTwiceDifferentiableError(
            "the gradient depends on the weights, but torch has no graph of it",
            seen="a gradient that changes with the weights, without a graph",
            fix="some custom autograd.Function computes its backward outside torch (numpy, "
            ".data, .detach()): write that backward with differentiable torch operations",
        )
