import pytest

from thalweg.data.images import cache_writer


@pytest.fixture(autouse=True)
def cache_dir(tmp_path_factory, monkeypatch):
    """No test sees the user's cache, or another test's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("THALWEG_CACHE", str(folder))
    return folder


@pytest.fixture
def decodes(monkeypatch):
    """Names of the files that were decoded, as they are."""
    seen = []
    real = cache_writer._decode_file

    def spy(path, size, channels):
        seen.append(path.name)
        return real(path, size, channels)

    monkeypatch.setattr(cache_writer, "_decode_file", spy)
    return seen
