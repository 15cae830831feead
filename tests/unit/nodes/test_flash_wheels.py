"""The wheels that a card brings: ours and pip's from what is installed, the others from a folder, a cache, or the network."""

import io
import zipfile

import pytest

from callboard_core.errors import BadRequest, Failed
from callboard_core.wheels import own
from callboard_nodes.flash import wheels
from callboard_nodes.flash.seed import Target
from callboard_nodes.flash.wheels import bundle, requirements

PI = Target("cloudinit", "aarch64", "3.13")
OLD_PI = Target("firstrun", "armv7l", "3.11")


@pytest.fixture
def no_network(monkeypatch):
    def fetch(wanted, target, kept):
        raise Failed("no network")

    monkeypatch.setattr(wheels, "_fetch", fetch)


def test_our_own_wheel_is_whole_and_pip_comes_along():
    found = own()
    (ours,) = (name for name in found if name.startswith("callboard-"))
    names = zipfile.ZipFile(io.BytesIO(found[ours])).namelist()
    assert {"callboard.py", "callboard_core/boot/setup.py", "callboard_console/cli/main.py"} <= set(names)
    assert any(name.startswith("pip-") for name in found)


def test_what_is_needed_depends_on_the_processor():
    names = {text.partition("<")[0].partition(">")[0] for text in requirements(PI)}
    assert {"paho-mqtt", "pydantic", "psutil"} <= names
    assert "streamlit" not in names
    assert set(requirements(PI)) - set(requirements(OLD_PI)) == {
        text for text in requirements(PI) if "psutil" in text
    }


def test_a_folder_takes_the_place_of_the_network(tmp_path, no_network):
    (tmp_path / "paho_mqtt-2.1.0-py3-none-any.whl").write_bytes(b"x")
    assert bundle(PI, folder=tmp_path)["paho_mqtt-2.1.0-py3-none-any.whl"] == b"x"
    with pytest.raises(BadRequest, match="no wheels in"):
        bundle(PI, folder=tmp_path / "none")


def test_what_was_fetched_is_kept_for_each_kind_of_system(tmp_path, monkeypatch):
    fetched = []

    class Done:
        returncode = 0

    def run(command, **_):
        folder = command[command.index("--dest") + 1]
        (wheels.Path(folder) / f"x-{len(fetched)}.whl").write_bytes(b"wheel")
        fetched.append(command)
        return Done

    monkeypatch.setattr(wheels.subprocess, "run", run)
    first = bundle(PI, cache=tmp_path)
    assert bundle(PI, cache=tmp_path) == first
    assert bundle(OLD_PI, cache=tmp_path) != first
    assert len(fetched) == 2
    assert "manylinux_2_17_aarch64" in fetched[0]
    assert "manylinux_2_41_aarch64" in fetched[0]
    assert {"linux_armv7l", "manylinux2014_armv7l"} <= set(fetched[1])


def test_a_kept_wheel_that_was_damaged_is_fetched_anew(tmp_path, monkeypatch):
    test_what_was_fetched_is_kept_for_each_kind_of_system(tmp_path, monkeypatch)
    (kept,) = tmp_path.glob("aarch64-*/x-0.whl")
    kept.write_bytes(b"damaged")
    assert b"damaged" not in bundle(PI, cache=tmp_path).values()


def test_an_installation_without_pip_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(BadRequest, match="--wheels"):
        wheels._fetch(["x"], PI, tmp_path / "kept")


def test_what_cannot_be_fetched_leaves_nothing(tmp_path):
    with pytest.raises(Failed, match="cannot be fetched"):
        wheels._fetch(["--no-index", "no-such-distribution==1"], PI, tmp_path / "kept")
    assert list(tmp_path.iterdir()) == []
