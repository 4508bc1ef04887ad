"""What happens to a sample before the model sees it, in training and ever after."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Shaped, UInt8
from torch import Tensor

from thalweg.data.images.decode import POLICY_VERSION, decode, with_channels
from thalweg.data.images.formats import read_file
from thalweg.errors import DataError, UsageError

PART_VALUES = 1 << 17  # floats: half a MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Decoding and normalisation. Saved with the model, so that they cannot differ later."""

    kind: Literal["image", "vector"]
    image_size: int  # pixels, the side of the square; 0 for vectors
    channels: int  # 1 or 3; 0 for vectors
    mean: tuple[float, ...]  # per channel, of pixels in 0..1; or per feature, in its unit
    std: tuple[float, ...]
    policy_version: int = POLICY_VERSION
    features: tuple[str, ...] = ()  # names of a vector's numbers, in order; () where it has none

    def decode(self, source: Path | bytes) -> UInt8[np.ndarray, "height width channels"]:
        """One image file, or its bytes, as training saw it. DataError when it cannot be decoded."""
        if self.kind != "image":
            raise UsageError("the model takes vectors, not images", seen=str(source)[:80])
        name = "the image" if isinstance(source, bytes) else str(source)
        try:
            data = source if isinstance(source, bytes) else read_file(source)
            pixels = decode(data, size=self.image_size).pixels
        except DataError as error:
            raise DataError(
                f"{name} cannot be decoded", seen=error.problem, fix=error.fix
            ) from error
        return with_channels(pixels, self.channels)

    def to_inputs(self, raw: Shaped[Tensor, "n ..."]) -> Float32[Tensor, "n ..."]:
        """What the model takes: [n, h, w, c] pixels → [n, c, h, w], channels_last; [n, d] → [n, d].

        Both normalised: (value − mean) / std, pixels being brought from 0..255 to 0..1 first.
        """
        scale, bias = _affine(self, str(raw.device))
        if self.kind == "vector":
            return torch.addcmul(bias, raw.float(), scale)
        if raw.shape[-1] < self.channels:
            raw = raw.expand(-1, -1, -1, self.channels)  # grey, for a model that takes colours
        n, height, width, channels = raw.shape
        # One fused pass over rows of pixels: broadcasting along the channels alone is 3× slower.
        rows = raw.reshape(n * height, width * channels)
        normal = _normalised(rows, scale.repeat(width), bias.repeat(width))
        return normal.view(n, height, width, channels).permute(0, 3, 1, 2)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`. Raises DataError if the decode policy was another."""
        listed = {key: tuple(values[key]) for key in ("mean", "std", "features") if key in values}
        made = cls(**{**values, **listed})
        if made.policy_version != POLICY_VERSION:
            raise DataError(
                "this model was trained under another decode policy",
                seen=f"policy {made.policy_version}, here {POLICY_VERSION}",
                fix="use the version of thalweg that trained it, or train it again",
            )
        return made


def _normalised(
    rows: Shaped[Tensor, "n d"], scale: Float32[Tensor, " d"], bias: Float32[Tensor, " d"]
) -> Float32[Tensor, "n d"]:
    """rows · scale + bias, where they are not floats yet a part at a time, which the cache holds:
    in one piece each value went to memory and back once more.
    """
    if rows.dtype == torch.float32:
        return torch.addcmul(bias, rows, scale)
    made = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
    most = PART_VALUES // rows.shape[1] if rows.device.type == "cpu" else len(rows)
    for part, raw in zip(made.split(max(1, most)), rows.split(max(1, most)), strict=True):
        torch.addcmul(bias, part.copy_(raw), scale, out=part)
    return made


@lru_cache(maxsize=16)
def _affine(preprocessing: Preprocessing, device: str) -> tuple[Tensor, Tensor]:
    """Scale and bias such that raw · scale + bias is normalised, on the device."""
    unit = 255.0 if preprocessing.kind == "image" else 1.0
    with torch.inference_mode(False):  # else the cached tensors would be of no use to autograd
        mean = torch.tensor(preprocessing.mean, dtype=torch.float64)
        std = torch.tensor(preprocessing.std, dtype=torch.float64)
        scale, bias = 1 / (unit * std), -mean / std
        return scale.float().to(device), bias.float().to(device)
