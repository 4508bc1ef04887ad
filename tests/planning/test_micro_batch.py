"""A batch that does not fit into memory is accumulated from micro-batches."""

from typing import Any

import pytest
import torch

from thalweg.api import Progress, plan, train
from thalweg.models import MODELS
from thalweg.planning import micro_batch
from thalweg.planning.micro_batch import with_fitting_batch
from thalweg.recipes.recipe import recorded_recipe
from thalweg.training.memory import COPIES, OVERHEAD, is_out_of_memory, step_bytes


@pytest.fixture
def memory(monkeypatch):
    """Says how many bytes there are."""

    def of(count):
        monkeypatch.setattr(micro_batch, "available_bytes", lambda _: count)

    return of


def needed_by(ready, size):
    """Bytes of a step of so many samples."""
    facts = ready.dataset.facts
    model = MODELS[ready.recipe.model.name](facts.num_classes, input_shape=facts.input_shape)
    return step_bytes(model, torch.zeros(2, *facts.input_shape), samples=size)


def refuses(subject, setting):
    return torch.empty(1 << 60)  # the allocator's own refusal


def test_what_a_step_takes_is_what_backward_reads():
    """By hand: a linear layer keeps its inputs, and tanh its outputs."""
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4))
    weights = 4 * (8 * 16 + 16 + 16 * 4 + 4)
    saved = 4 * (8 + 16)  # bytes of a sample
    estimated = step_bytes(model, torch.zeros(2, 8), samples=100)
    assert estimated == round(OVERHEAD * 100 * saved) + COPIES * weights


def test_where_it_fits_nothing_changes(scans, memory):
    ready = plan(scans, model="convnet", batch_size=32)
    memory(10 * needed_by(ready, 32))
    assert with_fitting_batch(ready) == ready


@pytest.mark.parametrize("parts", [2, 4, 16])
def test_the_batch_is_halved_until_it_fits(scans, memory, monkeypatch, parts):
    monkeypatch.setattr(micro_batch, "loss_and_gradient", refuses)
    ready = plan(scans, model="convnet", batch_size=32)
    memory(2 * needed_by(ready, 32 // parts) if parts < 16 else 0)
    fitting = with_fitting_batch(ready)
    assert (fitting.recipe.batch.size, fitting.recipe.batch.accumulate) == (32 // parts, parts)
    assert fitting.steps == ready.steps
    (note,) = fitting.notes[len(ready.notes) :]
    assert "a batch of 32 does not fit into memory" in note
    assert "batch norms see the statistics" in note


def test_in_doubt_a_step_is_tried(scans, memory, monkeypatch):
    ready = plan(scans, model="convnet", batch_size=32)
    memory(int(needed_by(ready, 32) / 0.7))
    state = torch.get_rng_state()
    assert with_fitting_batch(ready) == ready  # a real step, which works
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(micro_batch, "loss_and_gradient", refuses)
    assert with_fitting_batch(ready).recipe.batch.accumulate > 1


def test_only_a_lack_of_memory_is_one():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60)
    assert is_out_of_memory(refused.value)
    assert is_out_of_memory(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    )
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.slow
def test_the_run_records_what_it_was_made_in(scans, tmp_path, memory):
    options: dict[str, Any] = {"model": "convnet", "epochs": 1, "batch_size": 32}
    memory(0)
    progress = Progress()
    run = train(scans, out=tmp_path, progress=progress, **options)
    recorded = recorded_recipe(run.path)
    assert (recorded.batch.size, recorded.batch.accumulate) == (2, 16)
    assert any("does not fit" in message for message in progress.messages)
    assert any("does not fit" in note for note in run.reader.meta["notes"])
    assert run.metrics["val_loss"] > 0
