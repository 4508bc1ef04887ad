"""Two ranks make the training of one process: every loss, every weight."""

import sys
from pathlib import Path

import pytest
import torch
from distributed.joint_work import all_of
from torch import nn

from thalweg.data.batch import part_of
from thalweg.distributed.ranks import Joint, Ranks, cores_of_a_rank, is_one_of_many
from thalweg.distributed.synced_norm import synchronise_norms
from thalweg.distributed.torchrun_agent import run_ranks
from thalweg.errors import UsageError

WORK = Path(__file__).with_name("joint_work.py")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two ranks found."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, str(WORK), str(folder)]
    assert not run_ranks(command, count=2, scratch=folder / "agent")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def one():
    return all_of(Ranks())


@pytest.mark.parametrize(
    "name", ["convnet", "vectors", "mlp", "accumulated", "resting", "clipped", "penalised"]
)
def test_two_ranks_do_what_one_process_does(ranks, one, name):
    """With unequal parts, and an empty one, to the last digits of float64."""
    for found in (rank["found"][name] for rank in ranks):
        torch.testing.assert_close(found["seen"], one[name]["seen"], rtol=1e-9, atol=1e-9)
        assert found["weights"].keys() == one[name]["weights"].keys()
        torch.testing.assert_close(found["weights"], one[name]["weights"], rtol=1e-8, atol=1e-8)


def test_ranks_keep_the_same_weights_bit_for_bit(ranks):
    first, second = (rank["found"] for rank in ranks)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)


def test_the_first_rank_decides(ranks):
    assert [rank["value"] for rank in ranks] == [{"start": 7}, {"start": 7}]
    assert [rank["agreed"] for rank in ranks] == [[True, False], [True, False]]
    assert [rank["gathered"] for rank in ranks] == [[0, 1], []]
    assert [rank["part"] for rank in ranks] == [(0, 4, 7), (4, 7, 7)]


def test_each_rank_has_its_share_of_the_cores(ranks):
    assert [rank["threads"] for rank in ranks] == [cores_of_a_rank(2)] * 2
    assert cores_of_a_rank(10**6) == 1


@pytest.mark.parametrize(("rows", "count"), [(0, 2), (1, 2), (7, 3), (8, 2), (9, 4)])
def test_parts_are_all_rows_once(rows, count):
    parts = [part_of(rows, rank=rank, count=count) for rank in range(count)]
    found = [part.of(torch.arange(rows)).tolist() for part in parts]
    assert [row for part in found for row in part] == list(range(rows))
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_a_process_that_nobody_started_is_alone():
    alone = Ranks()
    assert not is_one_of_many()
    assert alone.is_first
    assert alone.from_first(3) == 3
    assert alone.decision_of_first(True)
    assert alone.first_on_each_machine(lambda: 5) == 5


def test_a_batch_norm_of_ones_own_is_refused():
    class Own(nn.BatchNorm1d):
        def forward(self, input):
            return 2 * super().forward(input)

    with pytest.raises(UsageError, match="cannot be synchronised"):
        synchronise_norms(nn.Sequential(Own(3)), Joint(Ranks()))


def test_a_failing_rank_ends_the_others_and_is_told(tmp_path):
    program = "import os, time; time.sleep(30 * (os.environ['RANK'] == '0')); os._exit(7)"
    failed = run_ranks([sys.executable, "-c", program], count=2, scratch=tmp_path)
    assert failed[1] == 7
    assert failed[0] == -15  # SIGTERM
