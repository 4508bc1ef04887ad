"""A text that the network of a run writes while it is trained."""

from contextlib import nullcontext

import torch

from thalweg.borrow import preserve_modes, preserve_random_state
from thalweg.data.text.vocabulary import Vocabulary
from thalweg.inference.write_sequences import write_sequences
from thalweg.inference.write_text import Writing, continuation
from thalweg.models.sequences.decoder import Decoder
from thalweg.models.sequences.encoder_decoder import EncoderDecoder
from thalweg.runs.session import Session
from thalweg.runs.written_split import source_inputs

LENGTH, LAST_LENGTH = 200, 600  # tokens, after a validation and at the end
FIRST_SHARE = 1 / 40  # of the updates, before the first text


def first_sample_step(session: Session) -> int:
    """Updates before the first text; 0 where the network writes none."""
    if _vocabulary(session) is None:
        return 0
    return max(1, round(FIRST_SHARE * session.plan.steps))


def written_sample(session: Session, *, length: int = LENGTH) -> str:
    """A text after a line break, by the weights as they are; "" where the network writes none.

    Of an encoder–decoder, the first validation sample and what is written from it. Modes and random
    state are restored.
    """
    if isinstance(session.model, EncoderDecoder):
        return _written_pair(session, session.model)
    vocabulary = _vocabulary(session)
    if vocabulary is None:
        return ""
    model, average = session.model, session.average
    writing = Writing(length=length, seed=session.plan.recipe.seed)
    averaged = nullcontext() if average is None else average.averaged_model()
    with averaged, preserve_random_state(), preserve_modes(model), torch.no_grad():
        model.eval()
        assert isinstance(model, Decoder)
        return "".join(continuation(model, vocabulary, "", writing=writing))


def _written_pair(session: Session, model: EncoderDecoder) -> str:
    """A validation sample, and what the network writes from it."""
    plan, average = session.plan, session.average
    dataset = plan.dataset
    row = int(dataset.indices["val"][0])
    averaged = nullcontext() if average is None else average.averaged_model()
    with averaged, preserve_random_state():
        ((written,),) = write_sequences(model, source_inputs(plan, dataset.indices["val"][:1]))
    text = dataset.modality.text_of_row(dataset.preprocessing, dataset.inputs[row])
    return f"{text or dataset.names[row]} → {plan.spec.text_of(written.tokens)}"


def _vocabulary(session: Session) -> Vocabulary | None:
    """The vocabulary of a network that writes; None for all others."""
    dataset = session.plan.dataset
    if not isinstance(session.model, Decoder):
        return None
    return dataset.modality.vocabulary(dataset.preprocessing)
