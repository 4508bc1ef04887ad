"""Hooks around the calls of one module: outside of what is compiled in place."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from thalweg.observe.compiler import compiler_in_use, is_transformed
from thalweg.observe.guard import Hook, ReportFailure
from thalweg.observe.script_shield import SHIELD

Remove = Callable[[], None]
Listener = tuple[Callable[..., None] | None, Callable[..., None]]  # before and after a call
REDIRECTIONS = ("_ForwardRedirection.", "_redirection_through_forward.")  # Lightning's, Fabric's


def is_redirected(module: nn.Module) -> bool:
    """True if Lightning calls the module to run its training step: DDP around it must be called.

    The model's own forward pass is then a call within that call.
    """
    forward = vars(module).get("forward")
    return any(name in getattr(forward, "__qualname__", "") for name in REDIRECTIONS)


class CallHooks:
    """One pair of hooks on a module, for any number of listeners.

    Where a function that calls the module is compiled, the number of hooks is a part of what it was
    compiled for: the pair then stays until the end, or all would be compiled anew when it goes.
    After `module.compile()` hooks would run inside the compiled code: the call is wrapped instead.
    A redirected call is no forward pass of the model, and is not reported.
    """

    def __init__(self, module: nn.Module, report_failure: ReportFailure) -> None:
        self._module = module
        self._before = Hook(self._notify_before, report_failure)
        self._after = Hook(self._notify_after, report_failure)
        self._listeners: dict[int, Listener] = {}
        self._next_key = 0
        self._handles: list[RemovableHandle] = []
        self._wrapper: _CompiledCall | None = None
        self._redirected: object = None  # the arguments of such a call, until it is over

    def listen(
        self, *, before: Callable[..., None] | None = None, after: Callable[..., None]
    ) -> Remove:
        """Call `before()` and `after(module, inputs, keywords, output)` until it is removed."""
        key, self._next_key = self._next_key, self._next_key + 1
        self._listeners[key] = before, after
        self.attach()
        return lambda: self._stop_listening(key)

    def attach(self) -> None:
        """Attach what is missing: the module may have been compiled since."""
        if not self._handles:
            self._attach_pair()
        call = self._module._compiled_call_impl
        if call is not None and not isinstance(call, _CompiledCall):
            self._wrapper = _CompiledCall(call, self)
            vars(self._module)["_compiled_call_impl"] = self._wrapper

    def _attach_pair(self) -> None:
        with suppress(RuntimeError):  # a scripted module takes no hooks
            self._handles.append(self._module.register_forward_pre_hook(self._before))
            after = self._module.register_forward_hook(self._after, with_kwargs=True)
            self._handles.append(after)
            SHIELD.enable()

    def remove(self) -> None:
        """Remove everything from the module."""
        self._listeners.clear()
        for handle in self._handles:
            handle.remove()
        if self._handles:
            SHIELD.disable()
        self._handles = []
        if self._wrapper is not None:
            if self._module._compiled_call_impl is self._wrapper:
                vars(self._module)["_compiled_call_impl"] = self._wrapper.call
            self._wrapper = None

    def before(self) -> None:
        """Run the hooks that precede a call."""
        self._before()

    def after(self, inputs: Any, keywords: Any, output: Any) -> None:
        """Run the hooks that follow a call."""
        self._after(self._module, inputs, keywords, output)

    def _stop_listening(self, key: int) -> None:
        self._listeners.pop(key, None)
        if not self._listeners and not compiler_in_use():
            self.remove()

    def _notify_before(self, *arguments: Any) -> None:
        if arguments and is_redirected(self._module):
            self._redirected = arguments[1]
            return
        for before, _after in list(self._listeners.values()):
            if before is not None:
                before()

    def _notify_after(self, *arguments: Any) -> None:
        if self._redirected is not None and arguments[1] is self._redirected:
            self._redirected = None
            return
        for _before, after in list(self._listeners.values()):
            after(*arguments)


class _CompiledCall:
    """Stands for a module's compiled call while the module is watched."""

    def __init__(self, call: Callable[..., Any], hooks: CallHooks) -> None:
        self.call, self._hooks = call, hooks

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        if is_transformed():
            return self.call(*inputs, **keywords)
        self._hooks.before()
        output = self.call(*inputs, **keywords)
        self._hooks.after(inputs, keywords, output)
        return output
