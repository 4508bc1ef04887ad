"""Watch beside torch.compile: compiled functions go on running as they do without a watcher.

A hook inside a compiled region is a part of it: attached while the compiler traces, it has the
region compiled anew when it goes. So nothing is attached where a compiled region may be, and the
watcher's own functions are hidden from the compiler.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, no_type_check

import torch

Function = Callable[..., Any]


def compiler_in_use() -> bool:
    """True once anybody in this process has called torch.compile. Imports no compiler.

    It is loaded long before, with the first optimizer.
    """
    compiler: Any = sys.modules.get("torch._dynamo")
    if compiler is None:
        return False
    backends: dict[int, Any] | None = getattr(compiler.eval_frame, "cached_backends", None)
    return backends is None or any(map(callable, backends.values()))  # None has it disabled


@contextmanager
def preserve_compiler() -> Iterator[None]:
    """Forget what is compiled within, so that a watcher attaches hooks afterwards as before.

    What was compiled before stays, and then so does what is compiled within.
    """
    was_in_use = compiler_in_use()
    try:
        yield
    finally:
        if not was_in_use and compiler_in_use():
            torch.compiler.reset()


@no_type_check
def is_transformed() -> bool:
    """True inside code that is being compiled, traced or vectorised: its tensors are stand-ins."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    return torch._C._functorch.peek_interpreter_stack() is not None


def eager() -> AbstractContextManager[object]:
    """Run functions that the user compiled as they were written, and compile nothing.

    Where the compiler met the mode of a probe, it would skip these functions ever after.
    """
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


def skip_frames(*functions: Any) -> None:
    """Have the compiler leave calls of these functions to Python, unless it inlines them.

    The hooks of a compiled model's root run outside its compiled code, but under the compiler,
    which would otherwise compile them. Needs no compiler to be loaded.
    """
    frames: Any = torch._C._dynamo.eval_frame
    for code in [function.__code__ for function in functions]:
        if hasattr(frames, "skip_code"):  # before PyTorch 2.7
            frames.skip_code(code)
        elif hasattr(frames, "set_code_exec_strategy"):
            action = frames._FrameAction
            strategy = frames._FrameExecStrategy(action.SKIP, action.DEFAULT)
            frames.set_code_exec_strategy(code, strategy)
