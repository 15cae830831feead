"""Where an installed node lies, what systemd is told about it, and wheels of what runs here."""

import shutil
import subprocess
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from callboard_core import wheels
from callboard_core.errors import BadRequest, NotFound
from callboard_core.settings import load_settings
from callboard_nodes.install import units
from callboard_nodes.install.layout import SLOTS, Layout
from callboard_nodes.install.setup import Plan, install, outdated_units, settings_text, uninstall
from callboard_nodes.install.venvs import SlotError, current, fill, make, point

SYSTEMD = shutil.which("systemd-analyze")


def executable(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


@pytest.fixture
def unit_files(tmp_path):
    """The units of a node that is installed under a root where its programs exist."""
    layout = Layout(tmp_path / "root")
    executable(layout.program)
    executable(layout.current / "bin" / "python")
    for name, text in units.texts(layout, user="daemon").items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_everything_lies_under_the_root(tmp_path):
    layout = Layout(tmp_path)
    places = [layout.slot(name) for name in SLOTS]
    places += [getattr(layout, name) for name, kind in vars(Layout).items() if isinstance(kind, property)]
    assert all(place.is_relative_to(tmp_path) for place in places)
    assert layout.inside(layout.config) == "/etc/callboard/callboard.toml"


def test_the_usual_root_is_the_machines_own():
    assert str(Layout().program) == "/opt/callboard/current/bin/callboard"


def test_the_settings_file_of_a_new_node_says_what_was_wanted(tmp_path):
    wanted = {"site": "farm", "node.id": "n", "node.tags": ["a", "b"], "node.farm.slots": "blender=2"}
    plan = Plan(layout=Layout(tmp_path), settings=wanted)
    plan.layout.etc.mkdir(parents=True)
    plan.layout.config.write_text(settings_text(plan))
    found = load_settings(file=plan.layout.config, env={}).value
    assert (found.site, found.node.id, found.node.tags, found.node.farm.slots) == tuple(wanted.values())
    assert found.node.join_file == plan.layout.join


def test_settings_that_no_node_can_read_are_named_as_they_were_given_and_nothing_is_left_of_them(tmp_path):
    plan = Plan(layout=Layout(tmp_path), settings={"node.id": "Not An Id"}, called={"node.id": "--id"})
    with pytest.raises(BadRequest, match="Change --id"):
        install(plan)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("there", "settings", "join", "says"),
    [
        ("[node]\nid = 'a'\n", {"node.id": "b"}, None, "has node.id = a, not b; .* leave --id out"),
        ("[node]\nid = 'a'\n", {"site": "farm"}, None, "has site = callboard, not farm; .* leave site out"),
        ("[node]\nid = 'Not An Id'\n", {}, None, "Change node.id in .*callboard.toml"),
        ("[node]\nid = 'a'\n", {}, "CB2-X", "write join_file = .*/etc/callboard/join"),
    ],
)
def test_a_settings_file_that_stays_must_fit_what_is_wanted(tmp_path, there, settings, join, says):
    layout = Layout(tmp_path)
    layout.etc.mkdir(parents=True)
    layout.config.write_text(there)
    with pytest.raises(BadRequest, match=says):
        install(Plan(layout=layout, settings=settings, called={"node.id": "--id"}, join=join))
    assert layout.config.read_text() == there
    assert not layout.home.exists()


@pytest.mark.parametrize("keep_state", [False, True])
def test_what_a_card_or_an_installation_has_put_down_goes_when_the_node_is_removed(tmp_path, keep_state):
    layout = Layout(tmp_path)
    files = [layout.program, layout.config, layout.modules, layout.state / "files" / "x"]
    for file in [*files, *(layout.unit(name) for name in units.texts())]:
        executable(file)
    uninstall(layout, keep_state=keep_state)
    left = [path for path in tmp_path.rglob("*callboard*") if not path.is_relative_to(layout.state)]
    assert left == []
    assert layout.state.exists() == keep_state


@pytest.mark.skipif(SYSTEMD is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(unit_files):
    files = sorted(str(file) for file in unit_files.glob("callboard-*"))
    assert len(files) == 5
    done = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(SYSTEMD is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("name", ["callboard-node", "callboard-update", "callboard-rollback"])
def test_the_units_are_hardened(unit_files, name):
    # 10 is a service without any hardening; below 3 is what systemd calls OK.
    done = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=true",
            "--threshold=25",
            str(unit_files / f"{name}.service"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unrecognized option" in done.stderr or "Unknown" in done.stderr:
        pytest.skip("this systemd cannot rate units offline")
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


def test_only_roots_programs_have_powers_and_they_have_no_network():
    texts = units.texts()
    assert "CapabilityBoundingSet=\n" in texts["callboard-node.service"]
    for name in ("callboard-update.service", "callboard-rollback.service"):
        assert "PrivateNetwork=yes" in texts[name]
        assert "User=" not in texts[name]


def test_units_of_another_version_are_told_and_those_of_this_one_are_not_whoever_it_was_installed_for(
    tmp_path,
):
    layout = Layout(tmp_path)
    assert outdated_units(layout) is None
    layout.units.mkdir(parents=True)
    for name, text in units.texts(layout, user="gardener", python="/usr/bin/python3.12").items():
        layout.unit(name).write_text(text)
    assert outdated_units(layout) == []
    node, timer = layout.unit("callboard-node.service"), layout.unit("callboard-rollback.timer")
    (layout.units / "callboard-node.service.d").mkdir()
    (layout.units / "callboard-node.service.d" / "override.conf").write_text(
        "[Service]\nReadWritePaths=/srv\n"
    )
    assert outdated_units(layout) == []
    node.write_text(node.read_text().replace("NoNewPrivileges=yes\n", ""))
    timer.unlink()
    assert outdated_units(layout) == [node.name, timer.name]


def test_the_rollback_needs_no_environment():
    (line,) = [
        line for line in units.texts()["callboard-rollback.service"].splitlines() if "ExecStart" in line
    ]
    assert line == "ExecStart=/usr/bin/python3 -I /opt/callboard/rollback.py --root /"


def test_the_link_is_replaced_and_never_missing(tmp_path):
    link = tmp_path / "current"
    assert current(link) is None
    for name in ("a", "b", "a"):
        point(link, tmp_path / name)
        assert current(link) == name
    assert [entry.name for entry in tmp_path.iterdir()] == ["current"]


def test_an_environment_is_never_made_through_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (tmp_path / "a").symlink_to("elsewhere")
    with pytest.raises(SlotError, match="is a link"):
        make(tmp_path / "a")
    assert (tmp_path / "elsewhere" / "kept").exists()


def test_a_missing_wheel_is_named(tmp_path):
    make(tmp_path / "a")
    (tmp_path / "wheels").mkdir()
    with pytest.raises(SlotError, match="callboard"):
        fill(tmp_path / "a", tmp_path / "wheels")


def test_what_is_needed_here_is_found_and_nothing_of_the_board():
    names = {one.metadata["Name"].lower() for one in wheels.closure()}
    assert {"callboard", "paho-mqtt", "pydantic", "zeroconf", "packaging"} <= names
    assert not {"amqtt", "fastapi", "streamlit", "sqlalchemy"} & names
    assert "fastapi" in {one.metadata["Name"].lower() for one in wheels.closure(extras=["board"])}


def test_each_distribution_is_packed_once_and_pip_is_among_them(tmp_path):
    names = [wheel.name.partition("-")[0] for wheel in wheels.gather(tmp_path)]
    assert len(names) == len(set(names))
    assert {"pip", "callboard"} <= set(names)


def test_what_is_not_installed_is_named():
    with pytest.raises(NotFound, match="nobody-has-this"):
        wheels.closure(["nobody-has-this"])


def test_a_packed_wheel_has_the_files_and_is_the_same_each_time(tmp_path):
    first = wheels.pack(distribution("packaging"), tmp_path)
    content = first.read_bytes()
    assert wheels.pack(distribution("packaging"), tmp_path).read_bytes() == content
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
    assert "packaging/version.py" in names
    assert f"packaging-{distribution('packaging').version}.dist-info/RECORD" == names[-1]
    assert not [name for name in names if name.endswith((".pyc", "INSTALLER", "direct_url.json"))]


def test_this_program_is_packed_from_where_it_is_imported(tmp_path):
    with zipfile.ZipFile(wheels.pack(distribution("callboard"), tmp_path)) as archive:
        names = set(archive.namelist())
    assert {"callboard.py", "callboard_nodes/install/units.py", "callboard_core/py.typed"} <= names
    assert any(name.endswith("entry_points.txt") for name in names)
