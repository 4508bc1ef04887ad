"""FiLM: what is beside a sample in its batch, and padding behind its question, change nothing."""

import pytest
import torch

from thalweg.errors import UsageError
from thalweg.models.build import build_model

SETTINGS = {"vocabulary": 9, "width": 8}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model("film_answerer", 3, input_shape=(3, 32, 24), changes=SETTINGS).eval()


@pytest.fixture(scope="module")
def batch():
    chance = torch.Generator().manual_seed(1)
    words = torch.tensor([[2, 3, 4, 5], [6, 7, 0, 0], [8, 0, 0, 0]])
    images = torch.randn(3, 3, 32, 24, generator=chance)
    return {"images": images, "words": words, "mask": words > 0}


def test_a_batch_is_its_samples(model, batch):
    whole = model(**batch)
    for row, length in enumerate((4, 2, 1)):  # alone, and without padding
        alone = {name: tensor[row : row + 1] for name, tensor in batch.items()}
        alone |= {name: alone[name][:, :length] for name in ("words", "mask")}
        torch.testing.assert_close(model(**alone), whole[row : row + 1], atol=1e-5, rtol=0)


def test_both_the_image_and_the_question_matter(model, batch):
    whole = model(**batch)
    other_words = model(**batch | {"words": batch["words"].flip(0), "mask": batch["mask"].flip(0)})
    other_images = model(**batch | {"images": batch["images"].flip(0)})
    assert not torch.allclose(whole[0], other_words[0])
    assert not torch.allclose(whole[0], other_images[0])


def test_inputs_without_an_image_are_refused():
    with pytest.raises(UsageError, match="reads an image beside a question"):
        build_model("film_answerer", 3, input_shape=(7,), changes=SETTINGS)
