"""What every encoder–decoder promises: padding and batches change nothing, nothing looks ahead."""

from functools import partial

import pytest
import torch
from torch import nn

from thalweg.errors import UsageError
from thalweg.inference.write_sequences import write_sequences
from thalweg.models import MODELS

close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
NAMES = ("rnn_seq2seq", "lstm_seq2seq", "gru_seq2seq", "transformer_seq2seq")
LENGTHS = (5, 2, 7)


@pytest.fixture(params=NAMES)
def model(request):
    torch.manual_seed(0)
    heads = {"heads": 2} if request.param.startswith("transformer") else {}
    model = MODELS[request.param](8, input_shape=(9, 12, 7), width=16, depth=2, **heads)
    for weight in model.parameters():  # zeros at the start would hide what a branch does
        if not weight.any() or weight.std() < 0.02:
            nn.init.normal_(weight, std=0.3)
    return model.eval()


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    mask = torch.arange(9) < torch.tensor(LENGTHS)[:, None]
    source = torch.randint(1, 7, (3, 9)) * mask
    return {"tokens": torch.randint(8, (3, 6)), "source": source, "source_mask": mask}


def test_padding_changes_nothing_and_a_batch_is_its_rows(model, inputs):
    together = model(**inputs)
    for row, length in enumerate(LENGTHS):
        alone = {
            "tokens": inputs["tokens"][row : row + 1],
            "source": inputs["source"][row : row + 1, :length],
        }
        close(model(**alone)[0], together[row])


def test_nothing_looks_ahead_but_everything_at_the_source(model, inputs):
    before = model(**inputs)
    changed = {**inputs, "tokens": inputs["tokens"].clone()}
    changed["tokens"][:, 4:] = (changed["tokens"][:, 4:] + 1) % 8
    close(model(**changed)[:, :4], before[:, :4])
    other = {**inputs, "source": (inputs["source"] % 6 + 1) * inputs["source_mask"]}
    assert (model(**other)[:, 0] - before[:, 0]).abs().max() > 1e-3


def test_writing_with_a_state_is_writing_by_whole_passes(model, inputs):
    sources = {name: inputs[name] for name in ("source", "source_mask")}
    for row, (written,) in enumerate(write_sequences(model, sources)):
        own = {name: tensor[row : row + 1] for name, tensor in sources.items()}
        tokens, total = [0], 0.0
        while len(tokens) <= len(written.tokens):
            with torch.no_grad():
                logits = model(torch.tensor([tokens]), **own)[0, -1]
            tokens.append(int(logits.argmax()))
            total += logits.double().log_softmax(0).max().item()
        assert tuple(tokens[1:]) == written.tokens
        assert written.log_probability == pytest.approx(total, rel=1e-4)


def test_scheduled_sampling_shows_the_decoder_its_own_tokens_in_training_alone(model, inputs):
    expected = model(**inputs)
    model.scheduled_sampling = 1.0
    close(model(**inputs), expected)
    own = torch.cat((inputs["tokens"][:, :1], expected.argmax(-1)[:, :-1]), dim=1)
    close(model.train()(**inputs), model.eval()(**{**inputs, "tokens": own}))
    with pytest.raises(UsageError, match="share of the tokens"):
        MODELS["gru_seq2seq"](8, input_shape=(9, 12, 7), scheduled_sampling=1.5)


def test_inputs_that_are_no_pairs_are_refused():
    with pytest.raises(UsageError, match="reads pairs of sequences"):
        MODELS["gru_seq2seq"](8, input_shape=(32, 32))
