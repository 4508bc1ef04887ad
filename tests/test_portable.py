"""The same behaviour where a system has no locks, no users and no home."""

import os

import pytest

from thalweg import portable


@pytest.fixture
def descriptor(tmp_path):
    handle = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    yield handle
    os.close(handle)


def test_one_holder_at_a_time(tmp_path, descriptor):
    assert portable.lock_file(descriptor, wait=True)
    other = os.open(tmp_path / "lock", os.O_RDWR)
    assert portable.lock_file(other, wait=False) is False
    os.close(other)


def test_a_system_or_disk_without_locks_is_told_from_a_held_lock(descriptor, monkeypatch):
    def fail(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", fail)
    assert portable.lock_file(descriptor, wait=False) is None
    monkeypatch.setattr(portable, "fcntl", None)
    assert portable.lock_file(descriptor, wait=True) is None


def test_neither_home_nor_an_entry_of_the_user(monkeypatch, tmp_path):
    def missing():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", missing)
    assert portable.home().is_dir()


def test_users_without_numbers(monkeypatch):
    monkeypatch.delattr(os, "getuid")
    monkeypatch.setenv("USERNAME", "ada")
    assert portable.user_id() == "ada"
