"""Language models in Hugging Face's Trainer: sound ones raise no alarm, planted faults do.

Each is trained as it is, with the callback, and with neither callback nor watcher of its own, as
`thalweg run` watches it.
"""

from typing import Any

import pytest
import torch
from adapters import language
from adapters.digits import library

transformers = library("transformers", "transformers")

from thalweg.adapters.script import watch_everything  # noqa: E402
from thalweg.adapters.transformers import DiagnoseCallback  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
TOO_HIGH = {"learning_rate": 30.0, "max_grad_norm": 0.0}


def settings(folder: Any, *, kind: Any = None, **changes: Any) -> Any:
    options = {
        "num_train_epochs": 4, "per_device_train_batch_size": 16, "learning_rate": 3e-3,
        "lr_scheduler_type": "constant", "report_to": "none", "save_strategy": "no",
        "logging_strategy": "no", "disable_tqdm": True, "use_cpu": True,
    }  # fmt: skip
    kind = kind or transformers.TrainingArguments
    return kind(output_dir=str(folder), **(options | changes))


def train(model: Any, rows: Any, folder: Any, callbacks: list[Any], **changes: Any) -> Any:
    transformers.Trainer(
        model=model, args=settings(folder, **changes), train_dataset=rows, callbacks=callbacks
    ).train()
    return model


def causal(build: Any, fault: str, folder: Any, callbacks: list[Any]) -> Any:
    changes = TOO_HIGH if fault == "lr" else {}
    return train(build(), language.padded(language.sentences()), folder, callbacks, **changes)


def gpt2(fault, folder, callbacks):
    return causal(language.gpt2, fault, folder, callbacks)


def bert(fault, folder, callbacks):
    """Masked tokens alone are targets."""
    generator = torch.Generator().manual_seed(1)
    rows = language.padded(language.sentences())
    for row in rows:
        masked = (torch.rand(language.LENGTH, generator=generator) < 0.2) & (row["labels"] >= 0)
        masked[1] = True
        row["labels"][~masked] = -100
        row["input_ids"][masked] = 4
    changes = TOO_HIGH if fault == "lr" else {}
    return train(language.bert(), rows, folder, callbacks, **changes)


TRAININGS = [gpt2, bert]


def weights_after(training, fault, folder, callbacks=()):
    torch.manual_seed(0)
    model = training(fault, folder, list(callbacks))
    return [weight.detach().clone() for weight in model.parameters()]


def loud(diagnosis):
    return [finding.rule for finding in diagnosis.findings if finding.severity != "note"]


@pytest.mark.parametrize("training", TRAININGS, ids=lambda training: training.__name__)
def test_a_sound_language_model_raises_no_alarm(training, tmp_path):
    alone = weights_after(training, "", tmp_path)
    callback = DiagnoseCallback(sink=None)
    beside_callback = weights_after(training, "", tmp_path, [callback])
    with watch_everything() as session:
        watched = weights_after(training, "", tmp_path)
    for weights in (beside_callback, watched):
        assert all(torch.equal(a, b) for a, b in zip(alone, weights, strict=True))
    assert session.failures == []
    (diagnosis,) = session.diagnoses.values()
    assert loud(callback.diagnosis) == loud(diagnosis) == []


@pytest.mark.parametrize("training", TRAININGS, ids=lambda training: training.__name__)
def test_a_learning_rate_that_is_too_high_is_named_first(training, tmp_path):
    callback = DiagnoseCallback(sink=None)
    with watch_everything() as session:
        weights_after(training, "lr", tmp_path, [callback])
    for diagnosis in (callback.diagnosis, *session.diagnoses.values()):
        assert diagnosis.headline.rule == "learning-rate-too-high"
