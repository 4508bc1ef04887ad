"""Decoding and normalisation of images, the same in training, validation and prediction."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Shaped, UInt8
from torch import Tensor

from thalweg.data.images.decode import POLICY_VERSION, decode, with_channels
from thalweg.data.images.formats import read_file
from thalweg.data.preprocessing import affine, recorded_moments, recorded_text
from thalweg.errors import DataError

LARGEST_SIDE = 1 << 14  # pixels
PART_VALUES = 1 << 17  # floats: half a MiB


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ImagePreprocessing:
    """The size and channels that files are decoded to, and the statistics of the training split."""

    modality: ClassVar[str] = "image"
    image_size: int  # pixels, the side of the square
    channels: int  # 1 or 3
    mean: tuple[float, ...]  # per channel, of pixels in 0..1
    std: tuple[float, ...]

    def __repr__(self) -> str:
        return recorded_text(self.to_dict())

    def decode(self, source: Path | bytes) -> UInt8[np.ndarray, "height width channels"]:
        """One image file, or its bytes, as training saw it. DataError when it cannot be decoded."""
        name = "the image" if isinstance(source, bytes) else str(source)
        try:
            data = source if isinstance(source, bytes) else read_file(source)
            pixels = decode(data, size=self.image_size).pixels
        except DataError as error:
            raise DataError(
                f"{name} cannot be decoded", seen=error.problem, fix=error.fix
            ) from error
        return with_channels(pixels, self.channels)

    def to_inputs(self, raw: Shaped[Tensor, "n h w c"]) -> Float32[Tensor, "n channel h w"]:
        """Normalised images in channels-last memory order: (pixel / 255 − mean) / std."""
        scale, bias = affine(self.mean, self.std, unit=255.0, device=str(raw.device))
        if raw.shape[-1] < self.channels:
            raw = raw.expand(-1, -1, -1, self.channels)  # grey, for a model that takes colours
        n, height, width, channels = raw.shape
        # One fused pass over rows of pixels: broadcasting along the channels alone is 3× slower.
        rows = raw.reshape(n * height, width * channels)
        normal = _normalised(rows, scale.repeat(width), bias.repeat(width))
        return normal.view(n, height, width, channels).permute(0, 3, 1, 2)

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return {
            "kind": self.modality,
            "image_size": self.image_size,
            "channels": self.channels,
            "mean": self.mean,
            "std": self.std,
            "policy_version": POLICY_VERSION,
            "features": (),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ImagePreprocessing":
        """The inverse of `to_dict`.

        Raises: DataError if the decode policy was another; ValueError, KeyError or TypeError for
        damaged values.
        """
        if values["policy_version"] != POLICY_VERSION:
            raise DataError(
                "this model was trained under another decode policy",
                seen=f"policy {values['policy_version']}, here {POLICY_VERSION}",
                fix="use the version of thalweg that trained it, or train it again",
            )
        size, channels = values["image_size"], values["channels"]
        if channels not in (1, 3) or not isinstance(size, int) or not 0 < size <= LARGEST_SIDE:
            raise ValueError(f"{str(size)[:40]} px, {str(channels)[:40]} channels")
        mean, std = recorded_moments(values)
        return cls(image_size=size, channels=channels, mean=mean, std=std)


def _normalised(
    rows: Shaped[Tensor, "n d"], scale: Float32[Tensor, " d"], bias: Float32[Tensor, " d"]
) -> Float32[Tensor, "n d"]:
    """rows · scale + bias; bytes become floats a part at a time, which the cache holds: in one
    piece each value went to memory and back once more.
    """
    if rows.dtype == torch.float32:
        return torch.addcmul(bias, rows, scale)
    normal = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
    most = PART_VALUES // rows.shape[1] if rows.device.type == "cpu" else len(rows)
    for part, raw in zip(normal.split(max(1, most)), rows.split(max(1, most)), strict=True):
        torch.addcmul(bias, part.copy_(raw), scale, out=part)
    return normal
