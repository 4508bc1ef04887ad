"""Walk an autograd graph: its nodes, and the memory that it keeps alive."""

from collections.abc import Iterable, Iterator

from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node


def nodes(roots: Iterable[Tensor]) -> Iterator[Node]:
    """Every node of the graph behind `roots`, once."""
    stack = [root.grad_fn for root in roots if root.grad_fn is not None]
    visited = set(stack)
    while stack:
        node = stack.pop()
        yield node
        for parent, _ in node.next_functions:
            if parent is not None and parent not in visited:
                visited.add(parent)
                stack.append(parent)


def refuses_second_derivative(roots: Iterable[Tensor]) -> bool:
    """True if torch ended the graph in a node that refuses a second derivative."""
    return any(node.name() == "torch::autograd::Error" for node in nodes(roots))


def custom_nodes(root: Tensor) -> list[Node]:
    """The graph's nodes of the user's own autograd.Functions."""
    return [node for node in nodes([root]) if isinstance(node, BackwardCFunction)]


def graph_bytes(roots: Iterable[Tensor]) -> int:
    """Bytes of all tensors that the graph behind `roots` keeps alive, each storage once."""
    storages: dict[int, int] = {}
    for node in nodes(roots):
        for tensor in _saved_tensors(node):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _saved_tensors(node: Node) -> list[Tensor]:
    tensors: list[Tensor] = []
    for name in dir(node):
        if name.startswith("_saved_") and not name.endswith(("_sizes", "_strides")):
            value = getattr(node, name)
            values = value if isinstance(value, tuple | list) else [value]
            tensors.extend(v for v in values if isinstance(v, Tensor))
    return tensors
