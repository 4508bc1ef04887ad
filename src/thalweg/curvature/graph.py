"""What an autograd graph holds: its nodes, and the memory that it keeps alive."""

from collections.abc import Iterable, Iterator

from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node


def nodes(roots: Iterable[Tensor]) -> Iterator[Node]:
    """Every node of the graph behind `roots`, once."""
    stack = [root.grad_fn for root in roots if root.grad_fn is not None]
    seen = set(stack)
    while stack:
        node = stack.pop()
        yield node
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)


def dead_end(roots: Iterable[Tensor]) -> bool:
    """Whether the graph ends in a node that torch put there to refuse a second derivative."""
    return any(node.name() == "torch::autograd::Error" for node in nodes(roots))


def custom_nodes(root: Tensor) -> list[Node]:
    """Where the graph goes through the user's own autograd.Functions."""
    return [node for node in nodes([root]) if isinstance(node, BackwardCFunction)]


def graph_bytes(roots: Iterable[Tensor]) -> int:
    """Bytes of all tensors that the graph behind `roots` keeps alive, each storage once."""
    storages: dict[int, int] = {}
    for node in nodes(roots):
        for tensor in _saved(node):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _saved(node: Node) -> list[Tensor]:
    found: list[Tensor] = []
    for name in dir(node):
        if name.startswith("_saved_") and not name.endswith(("_sizes", "_strides")):
            value = getattr(node, name)
            values = value if isinstance(value, tuple | list) else [value]
            found.extend(v for v in values if isinstance(v, Tensor))
    return found
