"""A table of names, extended by other packages through their entry points."""

import pytest

from thalweg.errors import UnknownNameError
from thalweg.registry import Registry


@pytest.mark.parametrize(
    ("kind", "group"), [("model", "models"), ("loss", "losses"), ("penalty", "penalties")]
)
def test_an_installed_package_adds_entries(tmp_path, monkeypatch, kind, group):
    installed = tmp_path / "stranger-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(f"[thalweg.{group}]\nmine = stranger:mine\n")
    (tmp_path / "stranger.py").write_text("def mine():\n    return 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert Registry(kind, ())["mine"]() == 42


def test_an_unknown_name_offers_the_nearest():
    def resnet18():
        pass

    with pytest.raises(UnknownNameError, match="no model is called 'resnet19'") as caught:
        Registry("model", (resnet18,))["resnet19"]
    assert "resnet18" in caught.value.fix
