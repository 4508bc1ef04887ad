"""Forward passes of a bare copy in eval mode, from the same or another random state."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from thalweg.borrow import seed_generators
from thalweg.observe.bare_copy import bare_copy
from thalweg.observe.forward_pass import eval_keywords, main_output, own_tensors
from thalweg.observe.instrument import Moment
from thalweg.observe.isolation import isolated
from thalweg.observe.sample_arguments import Arguments

DROPOUTS = ("native_dropout", "bernoulli_", "bernoulli")


class EvalPasses:
    """Runs one copy of the model several times; use it inside `eval_passes`."""

    def __init__(self, copy: nn.Module) -> None:
        self.copy = copy
        self.axis = 0  # of the samples in the output, which comes with it first

    def output(
        self,
        arguments: Arguments,
        *,
        seed: int = 0,
        mode: AbstractContextManager[Any] | None = None,
    ) -> Tensor | None:
        """The main output in single precision, samples first, from that random state."""
        inputs, keywords = own_tensors((arguments.inputs, eval_keywords(arguments.keywords)))
        seed_generators(seed)
        if mode is None:
            result = self.copy(*inputs, **keywords)
        else:
            with mode:
                result = self.copy(*inputs, **keywords)
        output = main_output(result)
        if output is None or output.ndim <= self.axis:
            return None
        return output.detach().float().movedim(self.axis, 0)


@contextmanager
def eval_passes(moment: Moment) -> Iterator[EvalPasses]:
    """Copy the user's model and let it run in eval mode, in the precision of the loop."""
    copy = bare_copy(moment.model).eval()
    with moment.autocast(), isolated(copy):
        yield EvalPasses(copy)


@contextmanager
def running_modules(model: nn.Module, stack: list[tuple[str, nn.Module, Any]]) -> Iterator[None]:
    """Keep name, module and arguments of the running modules, the innermost last."""
    handles = []

    def enter(module: nn.Module, arguments: Any, keywords: Any, *, name: str) -> None:
        stack.append((name, module, (*arguments, *keywords.values())))

    def leave(*_: object) -> None:
        stack.pop()

    for name, module in model.named_modules():
        before = partial(enter, name=name)
        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        stack.clear()
        for handle in handles:
            handle.remove()


class RandomOperations(TorchDispatchMode):
    """Notes the operations that draw random numbers: name -> module."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: PyTorch would load its compiler to have it skip this class, which takes a second."""
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stack: list[tuple[str, nn.Module, Any]] = []
        self.places: dict[str, str] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags and _draws(func, args, kwargs or {}):
            name = func.overloadpacket.__name__
            name = "dropout" if name in DROPOUTS or "attention" in name else name
            self.places.setdefault(name, self.stack[-1][0] if self.stack else "")
        return func(*args, **(kwargs or {}))


def _draws(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """False for an attention that drops nothing, which is tagged as random all the same."""
    for slot, argument in zip(func._schema.arguments, args, strict=False):
        if slot.name == "dropout_p":
            return bool(argument > 0)
    return bool(kwargs.get("dropout_p", "attention" not in func.overloadpacket.__name__))
