"""A Transformer decoder: rotary positions, normalised queries and keys, squared ReLU.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762. Norms of queries and keys: Henry et
al. 2020, https://arxiv.org/abs/2010.04245. Soft-capped logits: Gemma 2,
https://arxiv.org/abs/2408.00118, §2. The combination and the zeros at the ends of branches:
modded-nanogpt and nanochat, https://github.com/karpathy/nanochat (MIT).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from thalweg.errors import UsageError
from thalweg.models.pieces.squared_relu import squared_relu
from thalweg.models.pieces.token_shape import context_length
from thalweg.models.sequences.decoder import Decoder, State
from thalweg.models.sequences.memory import Memory
from thalweg.models.sequences.rotary import rotate, rotations

SOFT_CAP = 15.0  # nats: logits stay within ±15
LONGEST_EXPLICIT = 512  # tokens, up to which training on a CPU keeps the scores of attention
EXPANSION = 4  # hidden units of a feed-forward layer, per unit of the width

# Queries, keys, values, [batch, head, time, dim] → mixed values, [batch, head, time, dim].
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


class MemoryEntries(NamedTuple):
    """The memory as one layer sees it."""

    keys: Float[Tensor, "batch head entry dim"]
    values: Float[Tensor, "batch head entry dim"]
    mask: Bool[Tensor, "batch entry"]


class Cache(NamedTuple):
    """The state: keys and values of the last `context` positions, a ring of constant size.

    Slot s holds the last position p with p mod context = s.
    """

    keys: Float[Tensor, "layer batch head slot dim"]
    values: Float[Tensor, "layer batch head slot dim"]
    mask: Bool[Tensor, "batch slot"]  # False where there is nothing yet, or padding
    position: Int64[Tensor, ""]  # of the next token
    memory_keys: Float[Tensor, "layer batch head entry dim"]
    memory_values: Float[Tensor, "layer batch head entry dim"]


def normalise(x: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """Mean 0 and variance 1 over the last dimension, without weights."""
    return F.layer_norm(x, x.shape[-1:])


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.proj.weight)

    def forward(
        self,
        x: Float[Tensor, "batch time width"],
        attend: Attend,
        rotation: Float[Tensor, "2 time half"],
    ) -> Float[Tensor, "batch time width"]:
        q, k, v = rearrange(self.qkv(x), "b t (qkv h d) -> qkv b h t d", qkv=3, h=self.heads)
        mixed = attend(rotate(normalise(q), rotation), rotate(normalise(k), rotation), v)
        return self.proj(rearrange(mixed, "b h t d -> b t (h d)"))


class CrossAttention(nn.Module):
    """Attention over the memory, whose keys and values are computed once a sequence."""

    def __init__(self, width: int, memory_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(memory_width, 2 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.proj.weight)

    def entries(self, memory: Memory) -> MemoryEntries:
        k, v = rearrange(self.kv(memory.tokens), "b n (kv h d) -> kv b h n d", kv=2, h=self.heads)
        return MemoryEntries(normalise(k), v, memory.mask)

    def queries(self, x: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch head time dim"]:
        return normalise(rearrange(self.query(x), "b t (h d) -> b h t d", h=self.heads))

    def forward(
        self, x: Float[Tensor, "batch time width"], entries: MemoryEntries
    ) -> Float[Tensor, "batch time width"]:
        q, allowed = self.queries(x), entries.mask[:, None, None]
        keys, values = entries.keys.to(q.dtype), entries.values.to(q.dtype)
        mixed = F.scaled_dot_product_attention(q, keys, values, attn_mask=allowed)
        return self.proj(rearrange(mixed, "b h t d -> b t (h d)"))


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, EXPANSION * width, bias=False)
        self.fc2 = nn.Linear(EXPANSION * width, width, bias=False)
        nn.init.zeros_(self.fc2.weight)

    def forward(self, x: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch time width"]:
        return self.fc2(squared_relu(self.fc1(x)))


class Block(nn.Module):
    """Each branch reads a normalised stream, adds to the raw one, and starts at zero."""

    def __init__(self, width: int, heads: int, *, memory_width: int, dropout: float) -> None:
        super().__init__()
        self.attn = SelfAttention(width, heads)
        self.cross = CrossAttention(width, memory_width, heads) if memory_width else None
        self.mlp = FeedForward(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch time width"],
        attend: Attend,
        rotation: Float[Tensor, "2 time half"],
        entries: MemoryEntries | None,
    ) -> Float[Tensor, "batch time width"]:
        x = x + self.dropout(self.attn(normalise(x), attend, rotation))
        if self.cross is not None and entries is not None:
            x = x + self.dropout(self.cross(normalise(x), entries))
        return x + self.dropout(self.mlp(normalise(x)))


class TransformerDecoder(Decoder):
    """`depth` blocks of `width` numbers a position; each position looks at `context` last ones.

    Texts longer than `context` are no error: the window slides, as it does in the cache.
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        context: int = 256,
        dropout: float = 0.0,
        memory_width: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(width=width, heads=heads, context=context)
        self.vocabulary_size, self.context = vocabulary_size, context
        self.heads, self.head_dim = heads, width // heads
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(width, heads, memory_width=memory_width, dropout=dropout) for _ in range(depth)
        )
        self.head = nn.Linear(width, vocabulary_size, bias=False)
        nn.init.zeros_(self.head.weight)  # equal logits: the first loss is chance

    def forward(
        self,
        tokens: Int64[Tensor, "batch time"],
        memory: Memory | None = None,
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch time token"]:
        length = tokens.shape[1]
        positions = torch.arange(length, device=tokens.device)
        allowed = None
        if mask is not None or length > self.context:
            allowed = window_mask(positions, positions, self.context, real=mask)
        attend = partial(masked_attention, allowed=allowed)
        entries = self._memory_entries(memory)
        return self._logits(tokens, attend, positions, entries=entries)

    def initial_state(
        self,
        batch_size: int,
        memory: Memory | None = None,
        device: torch.device | None = None,
    ) -> State:
        """An empty cache, and the keys and values of the memory."""
        like, layers = self.head.weight, len(self.blocks)
        shape = (layers, batch_size, self.heads, self.context, self.head_dim)
        slots = like.new_zeros(shape, device=device)
        nothing = slots[:, :, :, :0]
        entries = [one for one in self._memory_entries(memory) if one is not None]
        return Cache(
            slots,
            slots.clone(),
            torch.zeros(batch_size, self.context, dtype=torch.bool, device=slots.device),
            torch.zeros((), dtype=torch.int64, device=slots.device),
            torch.stack([one.keys for one in entries]) if entries else nothing,
            torch.stack([one.values for one in entries]) if entries else nothing,
        )

    def forward_with_state(
        self,
        tokens: Int64[Tensor, "batch time"],
        state: State,
        memory: Memory | None = None,
        *,
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time token"], State]:
        """The logits of a chunk that follows on the cache, and the cache behind it."""
        cache, length = Cache(*state), tokens.shape[1]
        steps = torch.arange(length, device=tokens.device)
        positions = cache.position + steps
        real = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
        allowed = window_mask(
            positions,
            torch.cat((slot_positions(cache.position, self.context), positions)),
            self.context,
            real=torch.cat((cache.mask, real), dim=1),
        )
        new: list[tuple[Tensor, Tensor]] = []  # keys and values of each layer

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            layer = len(new)
            new.append((k, v))
            keys = torch.cat((cache.keys[layer].to(k.dtype), k), dim=2)
            values = torch.cat((cache.values[layer].to(v.dtype), v), dim=2)
            return masked_attention(q, keys, values, allowed=allowed)

        entries: list[MemoryEntries | None] = [None] * len(self.blocks)
        if memory is not None:
            both = zip(cache.memory_keys, cache.memory_values, strict=True)
            entries = [MemoryEntries(keys, values, memory.mask) for keys, values in both]
        logits = self._logits(tokens, attend, positions, entries=entries)

        last = min(length, self.context)  # what is older is out of the window
        slots = positions[-last:] % self.context
        keys = torch.stack([k for k, _ in new])[:, :, :, -last:].to(cache.keys.dtype)
        values = torch.stack([v for _, v in new])[:, :, :, -last:].to(cache.values.dtype)
        return logits, cache._replace(
            keys=cache.keys.index_copy(3, slots, keys),
            values=cache.values.index_copy(3, slots, values),
            mask=cache.mask.index_copy(1, slots, real[:, -last:]),
            position=cache.position + length,
        )

    def reorder(self, state: State, rows: Int64[Tensor, " chosen"]) -> State:
        """The state of these rows of the batch, in this order."""
        cache = Cache(*state)
        return Cache(
            cache.keys[:, rows],
            cache.values[:, rows],
            cache.mask[rows],
            cache.position,
            cache.memory_keys[:, rows],
            cache.memory_values[:, rows],
        )

    def attention_weights(
        self, tokens: Int64[Tensor, "batch time"], memory: Memory
    ) -> Float[Tensor, "batch time entry"]:
        """The weight of each entry of the memory at each step, averaged over layers and heads."""
        weights: list[Tensor] = []

        def record(cross: nn.Module, args: tuple[Tensor, MemoryEntries], output: Tensor) -> None:
            assert isinstance(cross, CrossAttention)
            q, entries = cross.queries(args[0]), args[1]
            scores = q @ entries.keys.to(q.dtype).mT * q.shape[-1] ** -0.5
            scores = scores.masked_fill(~entries.mask[:, None, None], -torch.inf)
            weights.append(scores.softmax(-1).mean(1))

        crosses = [module for module in self.modules() if isinstance(module, CrossAttention)]
        handles = [cross.register_forward_hook(record) for cross in crosses]
        try:
            self(tokens, memory)
        finally:
            for handle in handles:
                handle.remove()
        return torch.stack(weights).mean(0)

    def _memory_entries(self, memory: Memory | None) -> list[MemoryEntries | None]:
        """The memory as each layer sees it."""
        entries: list[MemoryEntries | None] = []
        for block in self.blocks:
            assert isinstance(block, Block)
            if memory is None or block.cross is None:
                entries.append(None)
            else:
                entries.append(block.cross.entries(memory))
        return entries

    def _logits(
        self,
        tokens: Int64[Tensor, "batch time"],
        attend: Attend,
        positions: Int64[Tensor, " time"],
        *,
        entries: Sequence[MemoryEntries | None],
    ) -> Float[Tensor, "batch time token"]:
        x = self.embedding(tokens)
        device = x.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))  # or the stream would stay float32
        rotation = rotations(positions, self.head_dim, dtype=x.dtype)
        x = self.dropout(normalise(x))
        for block, visible in zip(self.blocks, entries, strict=True):
            x = block(x, attend, rotation, visible)
        logits = self.head(normalise(x)).float()
        return SOFT_CAP * torch.tanh(logits / SOFT_CAP)


def masked_attention(
    q: Float[Tensor, "batch head time dim"],
    k: Float[Tensor, "batch head key dim"],
    v: Float[Tensor, "batch head key dim"],
    *,
    allowed: Bool[Tensor, "#batch 1 time key"] | None,
) -> Float[Tensor, "batch head time dim"]:
    """Scaled dot-product attention; without a mask each position sees itself and those before."""
    if allowed is not None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    if q.device.type == "cpu" and q.requires_grad and q.shape[2] <= LONGEST_EXPLICIT:
        return explicit_attention(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def explicit_attention(
    q: Float[Tensor, "batch head time dim"],
    k: Float[Tensor, "batch head time dim"],
    v: Float[Tensor, "batch head time dim"],
) -> Float[Tensor, "batch head time dim"]:
    """Causal attention with the scores in memory.

    PyTorch's fused kernel computes them again on the way back. Forward and backward of 32 × 4 × 128
    × 64 in bfloat16 on one core with AMX (torch 2.13): 74 ms fused, 27 ms so; in float32 48 and 48.
    """
    length = q.shape[2]
    future = torch.full((length, length), -torch.inf, dtype=q.dtype, device=q.device).triu(1)
    rows, columns = q.flatten(0, 1), k.flatten(0, 1).mT
    scores = torch.baddbmm(future, rows, columns, alpha=q.shape[-1] ** -0.5)
    return (scores.softmax(-1).to(v.dtype) @ v.flatten(0, 1)).unflatten(0, q.shape[:2])


def window_mask(
    queries: Int64[Tensor, " time"],
    keys: Int64[Tensor, " key"],
    context: int,
    *,
    real: Bool[Tensor, "batch key"] | None,
) -> Bool[Tensor, "rows 1 time key"]:
    """True where a query may look: at itself, and at the real ones among the context − 1 before it.

    A padded position looks at itself, so that its softmax is finite.
    """
    distance = queries[:, None] - keys
    allowed = ((distance >= 0) & (distance < context))[None]
    if real is not None:
        allowed = allowed & (real[:, None] | (distance == 0))
    return allowed[:, None]


def slot_positions(position: Int64[Tensor, ""], context: int) -> Int64[Tensor, " slot"]:
    """The position that each slot of the cache holds before `position`; negative where none."""
    slots = torch.arange(context, device=position.device)
    return position - 1 - (position - 1 - slots) % context


def check_sizes(*, width: int, heads: int, context: int) -> None:
    """Raise UsageError for sizes that make no Transformer."""
    if context < 1:
        raise UsageError(
            "a Transformer looks at a number of tokens",
            seen=f"context={context}",
            fix="context=256, or another number above 0",
        )
    if heads < 1 or width % (2 * heads):
        raise UsageError(
            "the width does not divide into heads of an even size, as rotary positions need",
            seen=f"width={width}, heads={heads}",
            fix="a width that is a multiple of 2 · heads, such as width=128, heads=4",
        )


def transformer_lm(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    width: int = 128,
    depth: int = 4,
    heads: int = 4,
    context: int = 0,
    dropout: float = 0.0,
) -> TransformerDecoder:
    """A language model of `depth` Transformer blocks, for characters and for tokens.

    `num_classes` is the size of the vocabulary. Each token looks at `context` last ones; 0: at as
    many as a training sample has.
    """
    tokens = context_length(input_shape, model="transformer_lm")
    return TransformerDecoder(
        num_classes,
        width=width,
        depth=depth,
        heads=heads,
        context=context or tokens,
        dropout=dropout,
    )
