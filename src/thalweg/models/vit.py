"""Vision Transformer: an image read as a sequence of patches. Weight names are timm's.

Source: Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929; the sizes tiny and small are
those of Touvron et al. 2021, https://arxiv.org/abs/2012.12877. `pool="mean"` averages the patches
instead of using a class token (Beyer et al. 2022, https://arxiv.org/abs/2205.01580).
"""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.errors import UsageError
from thalweg.models.pieces.drop_path import DropPath, depth_rates
from thalweg.models.pieces.image_shape import image_channels
from thalweg.registry import unknown_name

POOLS = ("token", "mean")
EPS = 1e-6  # of the layer norms, as in the paper's code and in timm


class PatchEmbed(nn.Module):
    def __init__(self, in_channels: int, dim: int, *, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)

    def forward(self, images: Float[Tensor, "batch c y x"]) -> Float[Tensor, "batch patch dim"]:
        return rearrange(self.proj(images), "b d y x -> b (y x) d")


class Attention(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "batch patch dim"]) -> Float[Tensor, "batch patch dim"]:
        q, k, v = rearrange(self.qkv(x), "b p (qkv h d) -> qkv b h p d", qkv=3, h=self.num_heads)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(rearrange(mixed, "b h p d -> b p (h d)"))


class FeedForward(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Float[Tensor, "batch patch dim"]) -> Float[Tensor, "batch patch dim"]:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm: each branch reads a normalised stream and adds to the raw one."""

    def __init__(self, dim: int, num_heads: int, *, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = FeedForward(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "batch patch dim"]) -> Float[Tensor, "batch patch dim"]:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    def __init__(
        self,
        num_classes: int,
        *,
        input_shape: tuple[int, ...],
        dim: int,
        num_heads: int,
        depth: int = 12,
        patch_size: int = 16,
        pool: str = "token",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if pool not in POOLS:
            raise unknown_name("pool", pool, POOLS)
        in_channels = image_channels(input_shape, model="vit", least=patch_size)
        num_patches = _num_patches(input_shape[1:], patch_size)
        self.pool = pool
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, num_patches + 1, dim))
        self.patch_embed = PatchEmbed(in_channels, dim, patch_size=patch_size)
        rates = depth_rates(drop_path, depth)
        self.blocks = nn.Sequential(*(Block(dim, num_heads, drop_path=rate) for rate in rates))
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.head = nn.Linear(dim, num_classes)
        self.apply(_initialise)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.zeros_(self.head.weight)  # equal logits: the first loss is chance

    def features(self, images: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch dim"]:
        """Return the head's inputs: the class token, or the mean over the patches."""
        patches = self.patch_embed(images)
        token = self.cls_token.expand(len(images), -1, -1)
        hidden = self.norm(self.blocks(torch.cat((token, patches), dim=1) + self.pos_embed))
        return hidden[:, 0] if self.pool == "token" else hidden[:, 1:].mean(dim=1)

    def forward(self, images: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class"]:
        return self.head(self.features(images))


def _num_patches(size: tuple[int, ...], patch_size: int) -> int:
    height, width = size
    if height % patch_size or width % patch_size:
        raise UsageError(
            "the image does not divide into whole patches",
            seen=f"{height} × {width} pixels, patch_size={patch_size}",
            fix=f"image_size={height - height % patch_size}, or another patch_size",
        )
    return (height // patch_size) * (width // patch_size)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def vit_tiny(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> ViT:
    """ViT-Ti/16 has 5,717,416 weights at 1000 classes and 224 pixels."""
    sizes: dict[str, Any] = {"dim": 192, "num_heads": 3}
    return ViT(num_classes, input_shape=input_shape, **(sizes | changes))


def vit_small(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> ViT:
    """ViT-S/16 has 22,050,664 weights at 1000 classes and 224 pixels."""
    sizes: dict[str, Any] = {"dim": 384, "num_heads": 6}
    return ViT(num_classes, input_shape=input_shape, **(sizes | changes))
