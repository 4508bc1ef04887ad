"""What another process found out is what this one would have, and leaves no trace."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from data import corpus

from thalweg.data import load_dataset
from thalweg.data.images import cache, file_survey, survey_process
from thalweg.data.load import wait_for_decoding
from thalweg.errors import DataError

MANY, MINE = file_survey.FEW + 14, os.getpid()


@pytest.fixture
def photos(tmp_path):
    return corpus.class_folders(tmp_path / "photos", {"cat": MANY // 2, "dog": MANY // 2})


@pytest.fixture
def two_processors_and_no_torch(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(sys, "modules", {k: v for k, v in sys.modules.items() if k != "torch"})


def asked(path, **wanted):
    return {"path": str(path), "target": "", "size": 0, **wanted}


def children():
    """Processes of this one, dead ones that nobody waited for among them."""
    stats = (_stat(entry) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return [stat for stat in stats if stat and int(stat.rpartition(")")[2].split()[1]) == MINE]


def _stat(entry):
    try:
        return (entry / "stat").read_text()
    except OSError:
        return ""  # it has ended meanwhile


@pytest.fixture(autouse=True)
def _before():
    assert not children(), "what another test left would pass for ours"


@pytest.mark.usefixtures("two_processors_and_no_torch")
class TestScouting:
    def test_a_set_that_was_scouted_is_the_one_that_was_not(self, photos, cache_dir, monkeypatch):
        (photos / "cat" / "0000.png").write_bytes(corpus.cut("PNG"))
        (photos / "dog" / "0001.png").write_bytes(b"")
        plain = load_dataset(photos, image_size=16, overlap=True)
        wait_for_decoding(plain)
        for path in cache_dir.glob("*-*"):
            cache.remove(path)
        own = []
        monkeypatch.setattr("thalweg.data.load.samples_at", lambda *a, **k: own.append(a))
        monkeypatch.setattr("thalweg.data.images.cache_writer.check_file", own.append)
        with survey_process.survey_in_background(str(photos), size=16):
            found = load_dataset(photos, image_size=16, overlap=True)
        assert not own  # nothing was looked up twice
        wait_for_decoding(found)
        assert found.fingerprint == plain.fingerprint
        assert found.quarantined == plain.quarantined
        assert found.names == plain.names
        assert found.notes == plain.notes
        assert (found.inputs == plain.inputs).all()

    def test_a_column_of_groups_that_no_folder_has_is_refused(self, photos):
        refused = pytest.raises(DataError)
        with survey_process.survey_in_background(str(photos), group="nest"), refused:
            load_dataset(photos, group="nest", overlap=True)

    def test_of_what_the_cache_holds_no_contents_are_looked_at(self, photos):
        load_dataset(photos)
        with survey_process.survey_in_background(str(photos)):
            samples, found = survey_process.take_survey(**asked(photos))
        assert len(samples.names) == len(found.stats) == MANY
        assert not found.checks

    def test_few_files_are_not_looked_at(self, tmp_path):
        few = corpus.class_folders(tmp_path / "few", {"a": 4, "b": 4})
        with survey_process.survey_in_background(str(few)):
            _, found = survey_process.take_survey(**asked(few))
        assert found.images.original_size == (16, 16)
        assert not found.checks

    def test_what_cannot_be_used_is_this_process_own_error(self, tmp_path):
        (tmp_path / "notes.txt").write_text("no images")
        refused = pytest.raises(DataError, match="no class folders")
        with survey_process.survey_in_background(str(tmp_path)), refused:
            load_dataset(tmp_path)

    def test_an_answer_is_for_its_question_and_given_once(self, photos):
        with survey_process.survey_in_background(str(photos), size=32):
            assert survey_process.take_survey(**asked(photos, size=16)) is None
            assert survey_process.take_survey(**asked(photos, size=32)) is not None
            assert survey_process.take_survey(**asked(photos, size=32)) is None

    @pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
    def test_nothing_is_left_of_it(self, photos, error):
        def interrupted():
            with survey_process.survey_in_background(str(photos)):
                assert children()
                raise error

        with pytest.raises(error):
            interrupted()
        assert not children()
        assert survey_process.take_survey(**asked(photos)) is None

    @pytest.mark.parametrize("path", ["", "digits", "no/such/folder", __file__])
    def test_no_process_is_started_for_what_is_no_folder(self, path):
        with survey_process.survey_in_background(path):
            assert not children()

    def test_nor_where_there_is_one_processor_or_a_rank(self, photos, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(os, "sched_getaffinity", lambda _: {0})
            with survey_process.survey_in_background(str(photos)):
                assert not children()
        monkeypatch.setenv("WORLD_SIZE", "2")
        with survey_process.survey_in_background(str(photos)):
            assert not children()


def test_nor_where_torch_is_there_already(photos):
    import torch  # noqa: F401

    with survey_process.survey_in_background(str(photos)):
        assert not children()


def test_neither_the_asking_nor_the_looking_needs_torch():
    code = "import sys, thalweg.data.images.survey_process as s\n"
    code += "print('numpy' in sys.modules, end=' ')\n"
    code += "import thalweg.data.images.file_survey; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
