"""Look past DistributedDataParallel: at the module that it calls, and past its node in the graph.

Where it searches for unused weights, as Hugging Face's Trainer has it do, all outputs pass through
one node more. A loss that the model itself returns is then no function of the logits beside it:
both are outputs of that node, and the logits of the wrapper never receive a gradient.
"""

from typing import Any

from torch import nn

SINK = "_DDPSinkBackward"


def module_in_ddp(model: nn.Module) -> nn.Module:
    """The module whose calls are seen in place of those of DistributedDataParallel around it."""
    while isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module
    return model


def root_node(loss: Any) -> Any:
    """The node of the graph that made a loss; None without a graph."""
    return _past_sinks(getattr(loss, "grad_fn", None), getattr(loss, "output_nr", 0))


def operands(node: Any) -> list[Any]:
    """The nodes that made an operation's inputs, without those of inputs that need no gradient."""
    inputs = [_past_sinks(*edge) for edge in node.next_functions]
    return [one for one in inputs if one is not None]


def _past_sinks(node: Any, index: int) -> Any:
    """The node that made output `index` of a node; the sink itself where that is not clear."""
    while node is not None and node.name() == SINK:
        edges, results = node.next_functions, node._input_metadata
        if len(edges) != len(results):  # outputs that are no tensors have no edge
            shape = results[index].shape
            edges = [(e, i) for e, i in edges if e and e._input_metadata[i].shape == shape]
            if len(edges) != 1:
                return node
            index = 0
        node, index = edges[index]
    return node
