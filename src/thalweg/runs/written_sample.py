"""A text that the network of a run writes while it is trained."""

from contextlib import nullcontext

import torch

from thalweg.borrow import preserve_modes, preserve_random_state
from thalweg.data.text.vocabulary import Vocabulary
from thalweg.inference.write_text import Writing, continuation
from thalweg.models.sequences.decoder import Decoder
from thalweg.runs.session import Session

LENGTH, LAST_LENGTH = 200, 600  # tokens, after a validation and at the end
FIRST_SHARE = 1 / 40  # of the updates, before the first text


def first_sample_step(session: Session) -> int:
    """Updates before the first text; 0 where the network writes none."""
    if _vocabulary(session) is None:
        return 0
    return max(1, round(FIRST_SHARE * session.plan.steps))


def written_sample(session: Session, *, length: int = LENGTH) -> str:
    """A text after a line break, by the weights as they are; "" where the network writes none.

    Modes and random state are restored.
    """
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


def _vocabulary(session: Session) -> Vocabulary | None:
    """The vocabulary of a network that writes; None for all others."""
    dataset = session.plan.dataset
    if not isinstance(session.model, Decoder):
        return None
    return dataset.modality.vocabulary(dataset.preprocessing)
