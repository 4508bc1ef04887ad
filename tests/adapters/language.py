"""Tiny language models with random weights, and sentences of a Markov chain to train them on."""

from typing import Any

import torch
from adapters.digits import library

VOCAB, LENGTH, PAD = 40, 24, 0


def sentences(count: int = 480) -> list[list[int]]:
    """Token ids: each token has two likely successors. Lengths vary, as sentences' do."""
    generator = torch.Generator().manual_seed(0)
    successors = torch.randint(5, VOCAB, (VOCAB, 2), generator=generator)
    rows = []
    for _ in range(count):
        length = int(torch.randint(LENGTH // 2, LENGTH + 1, (1,), generator=generator))
        row = [int(torch.randint(5, VOCAB, (1,), generator=generator))]
        for choice in torch.randint(2, (length - 1,), generator=generator):
            row.append(int(successors[row[-1], choice]))
        rows.append(row)
    return rows


def padded(rows: list[list[int]], *, ignored: int = -100) -> list[dict[str, torch.Tensor]]:
    """Batches' rows as a causal language model takes them; the model shifts the labels itself."""
    samples = []
    for row in rows:
        rest = LENGTH - len(row)
        samples.append(
            {
                "input_ids": torch.tensor(row + [PAD] * rest),
                "attention_mask": torch.tensor([1] * len(row) + [0] * rest),
                "labels": torch.tensor(row + [ignored] * rest),
            }
        )
    return samples


def gpt2(**changes: Any) -> Any:
    hf = library("transformers", "transformers")
    torch.manual_seed(0)
    return hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=2, n_positions=64,
            pad_token_id=PAD, bos_token_id=1, eos_token_id=2, **changes,
        )
    )  # fmt: skip


def bert(**changes: Any) -> Any:
    hf = library("transformers", "transformers")
    torch.manual_seed(0)
    return hf.BertForMaskedLM(
        hf.BertConfig(
            vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=64, pad_token_id=PAD, **changes,
        )
    )  # fmt: skip
