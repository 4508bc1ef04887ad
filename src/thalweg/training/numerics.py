"""Numerics of a step: dtype, memory format, matmul precision, threads, compilation."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from thalweg.data.batch import Inputs, each_tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """Speed and rounding of a step; the fields are the recipe's `precision` keys."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    matmul: Literal["highest", "high", "medium"] = "highest"
    threads: int = 0  # 0: torch's own number
    compile: bool = False

    def __str__(self) -> str:
        parts = [self.dtype, "channels_last" if self.channels_last else "channels first"]
        parts += [f"matmul {self.matmul}"] if self.matmul != "highest" else []
        parts += [f"{self.threads} threads"] if self.threads > 1 else []
        parts += ["1 thread"] if self.threads == 1 else []
        return ", ".join(parts + ["compiled"] * self.compile)

    def autocast(self, device: str) -> AbstractContextManager[object]:
        """The autocast context of a forward pass; weights stay float32."""
        if self.dtype == "float32":
            return nullcontext()
        return torch.autocast(device, getattr(torch, self.dtype))

    def prepare(self, model: nn.Module) -> nn.Module:
        """Set the memory format of the model's weights and compile it, in place; return it."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        model.to(memory_format=layout)  # type: ignore[call-overload]  # in no stub
        if self.compile:
            model.compile()
        return model

    @contextmanager
    def in_effect(self) -> Iterator[None]:
        """Set the process-wide matmul precision and threads; restore them afterwards."""
        precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
        torch.set_float32_matmul_precision(self.matmul)
        if self.threads:
            torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)
            torch.set_num_threads(threads)


def inputs_for(numerics: Numerics, inputs: Inputs) -> Inputs:
    """Images in the memory format of the numerics; a wrong one would convert every layer."""
    layout = torch.channels_last if numerics.channels_last else torch.contiguous_format
    return each_tensor(inputs, lambda t: t.contiguous(memory_format=layout) if t.ndim == 4 else t)
