"""The wheels that a card brings: ours and pip's from what is installed, the others from a folder, a cache, or the network."""

import io
import zipfile

import pytest
from packaging.requirements import Requirement

from callboard_core.errors import BadRequest, Failed
from callboard_core.wheels import own
from callboard_nodes.flash import wheels
from callboard_nodes.flash.fitting import fitting
from callboard_nodes.flash.seed import Target
from callboard_nodes.flash.wheels import bundle, requirements
from support.wheels import made

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
    needs = [Requirement(text) for text in requirements(PI)]
    for need in needs:
        (least,) = (part.version for part in need.specifier if part.operator == ">=")
        made(tmp_path, need.name.replace("-", "_"), least)
    made(tmp_path, "unheard_of", "1")
    found = bundle(PI, folder=tmp_path)
    there = {path.name: path.read_bytes() for path in tmp_path.glob("*.whl") if "unheard" not in path.name}
    assert len(there) == len(needs)
    assert there.items() <= found.items()
    assert {name.partition("-")[0] for name in found.keys() - there.keys()} == {"callboard", "pip"}
    with pytest.raises(BadRequest, match="no wheels in"):
        bundle(PI, folder=tmp_path / "none")


SHELF = {
    "a-1.0-py3-none-any.whl": ["b", "c; platform_machine == 'armv7l'", "d; extra == 'more'"],
    "a-0.9-py3-none-any.whl": [],
    "b-2.0-cp313-cp313-manylinux_2_28_aarch64.whl": [],
    "b-2.0-cp313-cp313-manylinux_2_28_x86_64.whl": [],
    "b-2.0-cp311-abi3-manylinux2010_x86_64.manylinux_2_12_x86_64.whl": [],
    "c-1-py3-none-any.whl": [],
}
PC = Target("cloudinit", "x86_64", "3.13")


@pytest.fixture
def shelf(tmp_path):
    paths = []
    for file, needs in SHELF.items():
        name, version, tag = file.removesuffix(".whl").split("-", 2)
        paths.append(made(tmp_path, name, version, *needs, tag=tag))
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    ("target", "needs", "found"),
    [
        (PI, ["a"], ["a-1.0-py3-none-any.whl", "b-2.0-cp313-cp313-manylinux_2_28_aarch64.whl"]),
        (PI, ["a<1"], ["a-0.9-py3-none-any.whl"]),
        (PC, ["a>=1"], ["a-1.0-py3-none-any.whl", "b-2.0-cp313-cp313-manylinux_2_28_x86_64.whl"]),
        (Target("cloudinit", "x86_64", "3.12"), ["b"], [next(name for name in SHELF if "abi3" in name)]),
    ],
)
def test_a_system_gets_what_it_needs_and_what_fits_it(shelf, target, needs, found):
    assert list(fitting(shelf, needs, target)) == found


@pytest.mark.parametrize(
    ("target", "needs", "says"),
    [
        (PI, ["a", "e>=1"], "no wheel of e>=1"),
        (PI, ["a>1"], "no wheel of a>1"),
        (PI, ["a[more]"], "no wheel of d"),
        (OLD_PI, ["a"], r"b-2.0-.*armv7l, Python 3.11\) needs another wheel of b"),
        (Target("cloudinit", "aarch64", "3.12"), ["b"], "needs another wheel of b"),
        (Target("cloudinit", "aarch64", "three"), ["b"], "--python three"),
    ],
)
def test_what_is_missing_or_for_other_systems_is_named(shelf, target, needs, says):
    with pytest.raises(BadRequest, match=says):
        fitting(shelf, needs, target)


def test_what_is_no_wheel_is_named(shelf):
    with pytest.raises(BadRequest, match=r"a-1\.0-py3-none-any\.whl is damaged"):
        fitting(shelf | {"a-1.0-py3-none-any.whl": b"half"}, ["a"], PI)
    with pytest.raises(BadRequest, match=r"x\.whl has no name of a wheel"):
        fitting(shelf | {"x.whl": b""}, ["a"], PI)


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
