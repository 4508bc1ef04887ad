import errno
import json
import os
import shutil
import subprocess
import sys
from itertools import count, islice

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from thalweg.data import Batch
from thalweg.errors import TrainingError
from thalweg.models import MODELS
from thalweg.optim import OPTIMIZERS, SCHEDULES
from thalweg.training import (
    NonFiniteWeightsError,
    latest_checkpoint,
    prune,
    save_checkpoint,
    train,
)


def parts(optimizer="adamw", *, seed=0, memory_format=torch.channels_last):
    torch.manual_seed(seed)
    model = MODELS["convnet"](4, input_shape=(1, 8, 8), width=4, dropout=0.3)
    model = model.to(memory_format=memory_format)  # type: ignore[call-overload]  # in no stub
    weights = model.named_parameters()
    return model, OPTIMIZERS[optimizer](weights, lr=0.01, weight_decay=0.1, momentum=0.9)


def advance(model, optimizer, *, start, stop, steps=8):
    """Batches follow from their numbers; dropout draws on the global generator."""

    def stream():
        for number in count(start):
            generator = torch.Generator().manual_seed(number)
            inputs = torch.randn(8, 1, 8, 8, generator=generator)
            yield Batch(inputs, torch.randint(4, (8,), generator=generator))

    schedule = SCHEDULES["cosine"](0.2)
    options = {"optimizer": optimizer, "schedule": schedule, "steps": steps, "start": start}
    list(islice(train(model, stream(), F.cross_entropy, **options), stop - start))


def snapshot(model, optimizer):
    """Every byte, dtype and stride, in a form that == compares."""
    tensors = {f"model {name}": tensor for name, tensor in model.state_dict().items()}
    for index, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"{index} {key}": value for key, value in entries.items()}
    raw = {name: as_bytes(value) for name, value in tensors.items()}
    return raw | {"groups": optimizer.state_dict()["param_groups"]}


def as_bytes(value):
    """An optimizer of ours may also keep plain numbers, such as its count of steps."""
    if not isinstance(value, torch.Tensor):
        return value
    content = value.detach().contiguous().numpy().tobytes()
    return value.dtype, value.shape, value.stride(), content


def saved(folder, steps=(1, 2)):
    """Checkpoints of those steps, and what each holds."""
    model, optimizer = parts()
    found = {}
    for before, step in zip((0, *steps), steps, strict=False):
        advance(model, optimizer, start=before, stop=step)
        save_checkpoint(folder, step=step, model=model, optimizer=optimizer, extra={"is": step})
        found[step] = snapshot(model, optimizer)
    return found


def loaded(folder):
    checkpoint = latest_checkpoint(folder)
    model, optimizer = parts(seed=99)
    checkpoint.restore(model, optimizer)
    assert checkpoint.extra == {"is": checkpoint.step}
    return checkpoint.step, snapshot(model, optimizer)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stop", [0, 1, 5])
def test_a_resumed_run_ends_as_one_that_never_stopped(tmp_path, optimizer, layout, stop):
    whole = parts(optimizer, memory_format=layout)
    advance(*whole, start=0, stop=8)
    first = parts(optimizer, memory_format=layout)
    advance(*first, start=0, stop=stop)
    model, made = first
    path = save_checkpoint(tmp_path, step=stop, model=model, optimizer=made, extra={})
    torch.rand(1000)  # another process would have another random state
    second = parts(optimizer, seed=99, memory_format=layout)
    checkpoint = latest_checkpoint(tmp_path)
    assert (checkpoint.path, checkpoint.step, checkpoint.skipped) == (path, stop, {})
    checkpoint.restore(*second)
    assert snapshot(*second) == snapshot(*first)
    advance(*second, start=stop, stop=8)
    assert snapshot(*second) == snapshot(*whole)


def test_restored_tensors_have_memory_of_their_own(tmp_path):
    saved(tmp_path, steps=(1,))
    model, optimizer = parts(seed=1)
    latest_checkpoint(tmp_path).restore(model, optimizer)
    shutil.rmtree(tmp_path)  # a view of the file would now be of nothing
    tensors = [v for entries in optimizer.state.values() for v in entries.values()]
    assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors)
    assert all(tensor.data_ptr() % 64 == 0 for tensor in tensors)


def test_what_is_not_finite_outside_the_weights_comes_back(tmp_path):
    model, optimizer = parts()
    model.stem[1].running_var[0] = float("inf")
    extra = {"best": float("nan"), "text": "Grüße", "nested": {"a": [1, None, True]}}
    save_checkpoint(tmp_path, step=0, model=model, optimizer=optimizer, extra=extra)
    checkpoint = latest_checkpoint(tmp_path)
    assert json.dumps(checkpoint.extra) == json.dumps(extra)
    other = parts(seed=1)
    checkpoint.restore(*other)
    assert other[0].stem[1].running_var[0] == float("inf")


def test_a_model_that_is_broken_is_not_saved(tmp_path):
    expected = saved(tmp_path)[2]
    model, optimizer = parts()
    with torch.no_grad():
        model.head.bias[1] = float("nan")
    with pytest.raises(NonFiniteWeightsError, match=r"head\.bias"):
        save_checkpoint(tmp_path, step=3, model=model, optimizer=optimizer, extra={})
    assert loaded(tmp_path) == (2, expected)


def test_another_model_is_refused(tmp_path):
    saved(tmp_path)
    other = MODELS["convnet"](5, input_shape=(1, 8, 8), width=4)
    _, optimizer = parts()
    with pytest.raises(TrainingError, match=r"head\.weight"):
        latest_checkpoint(tmp_path).restore(other, optimizer)


def test_another_optimizer_is_refused(tmp_path):
    saved(tmp_path)
    model, _ = parts()
    other = torch.optim.AdamW(model.parameters())
    with pytest.raises(TrainingError, match="another model or optimizer"):
        latest_checkpoint(tmp_path).restore(model, other)


def test_there_may_be_none(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "absent") is None


def test_the_last_two_and_the_best_are_kept(tmp_path):
    saved(tmp_path, steps=(1, 2, 3, 4, 5))
    prune(tmp_path, keep=2, best=2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-00000002", "step-00000004", "step-00000005"]
    prune(tmp_path, keep=2)
    assert latest_checkpoint(tmp_path, step=4).step == 4
    assert latest_checkpoint(tmp_path, step=2) is None


def test_a_step_that_is_saved_again_replaces_the_one_before(tmp_path):
    saved(tmp_path)
    model, optimizer = parts(seed=5)
    for _ in range(2):
        save_checkpoint(tmp_path, step=2, model=model, optimizer=optimizer, extra={"is": 2})
    assert loaded(tmp_path) == (2, snapshot(model, optimizer))
    assert len(list(tmp_path.iterdir())) == 2


def test_leftovers_of_a_killed_process_are_swept(tmp_path):
    for name in (".draft-step-00000007", ".trash-step-00000001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.safetensors").write_bytes(b"half")
    saved(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


def test_strange_files_in_the_folder_are_no_checkpoints(tmp_path):
    expected = saved(tmp_path)[2]
    (tmp_path / "step-00000009").write_text("a file")
    (tmp_path / "notes.txt").write_text("mine")
    assert loaded(tmp_path) == (2, expected)


def damage(path, how, at=0):
    if how == "flip":
        data = bytearray(path.read_bytes())
        data[at % len(data)] ^= 1 << (at % 8)
        path.write_bytes(data)
    elif how == "truncate":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return folder, saved(folder)


@pytest.mark.parametrize("how", ["flip", "truncate", "empty", "delete"])
@pytest.mark.parametrize("file", ["state.safetensors", "manifest.json"])
def test_damage_is_named_and_the_checkpoint_before_is_used(two, tmp_path, file, how):
    shutil.copytree(two[0], tmp_path / "copy")
    damage(tmp_path / "copy" / "step-00000002" / file, how, at=77)
    checkpoint = latest_checkpoint(tmp_path / "copy")
    assert list(checkpoint.skipped) == ["step-00000002"]
    assert checkpoint.skipped["step-00000002"]
    assert loaded(tmp_path / "copy") == (1, two[1][1])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(file=st.sampled_from(["state.safetensors", "manifest.json"]), at=st.integers(0, 2**20))
def test_no_flipped_bit_goes_unnoticed(two, file, at):
    path = two[0] / "step-00000002" / file
    before = path.read_bytes()
    try:
        damage(path, "flip", at)
        found = latest_checkpoint(two[0])
        # white space between JSON's tokens may change; what it says may not
        assert found.step == 1 or json.loads(path.read_bytes()) == json.loads(before)
    finally:
        path.write_bytes(before)


def test_when_all_are_damaged_it_says_so_instead_of_starting_anew(two, tmp_path):
    shutil.copytree(two[0], tmp_path / "copy")
    for path in (tmp_path / "copy").iterdir():
        damage(path / "state.safetensors", "truncate")
    with pytest.raises(TrainingError, match=r"step-00000001.*as long as") as caught:
        latest_checkpoint(tmp_path / "copy")
    assert "step-00000002" in caught.value.seen


class FailingDisk:
    """The Nth call that changes the disk fails; with `forever`, every later one too."""

    CALLS = ("open", "write", "fsync", "mkdir", "rename", "unlink", "rmdir")

    def __init__(self, patch, *, at, number, forever):
        self.calls, self.failed = 0, False
        self.at, self.number, self.forever = at, number, forever
        for name in self.CALLS:
            patch.setattr(os, name, self._failing(getattr(os, name)))

    def _failing(self, real):
        def call(*args, **kwargs):
            self.calls += 1
            if self.calls == self.at or (self.forever and self.calls > self.at):
                self.failed = True
                raise OSError(self.number, os.strerror(self.number))
            return real(*args, **kwargs)

        return call


@pytest.mark.parametrize("forever", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
@pytest.mark.parametrize("again", [3, 2], ids=["new step", "same step"])
def test_whichever_call_fails_one_of_the_two_checkpoints_is_whole(
    two, tmp_path, again, number, forever
):
    model, optimizer = parts()
    advance(model, optimizer, start=0, stop=3)
    expected = {2: [two[1][2]], 1: [two[1][1]]}
    expected.setdefault(again, []).append(snapshot(model, optimizer))
    for at in count(1):
        folder = tmp_path / str(at)
        shutil.copytree(two[0], folder)
        with pytest.MonkeyPatch.context() as patch:
            disk = FailingDisk(patch, at=at, number=number, forever=forever)
            said = [str(folder), os.strerror(number)]
            options = {"model": model, "optimizer": optimizer, "extra": {"is": again}}
            try:
                save_checkpoint(folder, step=again, **options)
                prune(folder, keep=2)
            except TrainingError as error:
                said = [error.problem, error.seen]
        assert str(folder) in said[0]
        assert os.strerror(number) in said[1]
        step, state = loaded(folder)
        assert step >= 2
        assert state in expected[step]
        if not disk.failed:
            break
        save_checkpoint(folder, step=4, **options)  # the disk works again
        prune(folder, keep=2)
        assert latest_checkpoint(folder).step == 4
        assert len(list(folder.iterdir())) == 2
    assert at > 12


def test_a_short_write_is_carried_on(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:1000]))
    expected = saved(tmp_path)[2]
    assert loaded(tmp_path) == (2, expected)


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from torch import nn
from thalweg.training.checkpoint import latest_checkpoint, prune, save_checkpoint

folder, at_random = Path(sys.argv[1]), sys.argv[2] == "random"
torch.manual_seed(0)
model = nn.Linear(300, 300)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

def save(step):
    with torch.no_grad():
        model.bias.fill_(step)
    save_checkpoint(folder, step=step, model=model, optimizer=optimizer, extra={})
    prune(folder, keep=2)

def die_at(number):
    calls = 0
    def dying(real):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        return call
    for name in ("open", "write", "fsync", "mkdir", "rename", "unlink", "rmdir"):
        setattr(os, name, dying(getattr(os, name)))

def child(number):
    pid = os.fork()
    if pid:
        return pid
    if at_random:
        for step in range(first + 1, first + 1000):
            save(step)
    die_at(number)
    save(first + 1)
    os._exit(0)

save(1)
first, deaths = 1, 0
for number in range(1, 41):
    pid = child(number)
    if at_random:
        from random import uniform
        from time import sleep
        sleep(uniform(0.001, 0.03))
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    deaths += os.WIFSIGNALED(status)
    found = latest_checkpoint(folder)
    assert found.step >= first and not found.skipped, (found.step, found.skipped)
    assert at_random or found.step <= first + 1
    found.restore(model, optimizer)
    assert (model.bias == found.step).all()
    first = found.step
    if not os.WIFSIGNALED(status):
        break
print(deaths)
"""


@pytest.mark.parametrize("when", ["each call", pytest.param("random", marks=pytest.mark.slow)])
def test_a_process_killed_while_it_saves_leaves_a_whole_checkpoint(tmp_path, when):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "run"), when]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= (40 if when == "random" else 12)


FULL = """
import sys
from pathlib import Path
import torch
from torch import nn
from thalweg.errors import TrainingError
from thalweg.training.checkpoint import latest_checkpoint, save_checkpoint

model = nn.Linear(400, 500)  # 0.8 MB: two fit on the disk, three do not
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
folder = Path(sys.argv[1]) / "checkpoints"
try:
    for step in range(1, 9):
        save_checkpoint(folder, step=step, model=model, optimizer=optimizer, extra={})
except TrainingError as error:
    print(error)
print("latest", latest_checkpoint(folder).step, sorted(p.name for p in folder.iterdir()))
"""


def test_a_disk_that_is_really_full(tmp_path):
    mount = f'mount -t tmpfs -o size=2m none "{tmp_path}"'
    enter = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    allowed = shutil.which("unshare") and subprocess.run([*enter, mount], check=False)
    if not allowed or allowed.returncode:
        pytest.skip("no small file system can be mounted here (user namespaces are off)")
    command = [*enter, f'{mount}; exec "$0" -c "$1" "$2"', sys.executable, FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "No space left on device" in done.stdout
    assert "latest 2 ['step-00000001', 'step-00000002']" in done.stdout


def test_weights_that_are_shared_are_restored(tmp_path):
    def tied():
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        return model, torch.optim.SGD(model.parameters(), lr=0.1)

    model, optimizer = tied()
    save_checkpoint(tmp_path, step=0, model=model, optimizer=optimizer, extra={})
    other, its = tied()
    latest_checkpoint(tmp_path).restore(other, its)
    assert torch.equal(other[0].weight, model[0].weight)
    assert other[0].weight is other[1].weight


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    model, optimizer = parts()
    path = tmp_path / "file" / "checkpoints"
    with pytest.raises(TrainingError, match="file"):
        save_checkpoint(path, step=0, model=model, optimizer=optimizer, extra={})
