"""What is built holds everything it needs and nothing more, and runs where only the base dependencies are."""

import importlib.metadata
import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "callboard_core": "core",
    "callboard_broker": "broker",
    "callboard_nodes": "nodes",
    "callboard_console": "console",
}
#: What a Raspberry Pi must not have to install.
HEAVY = {"streamlit", "sqlalchemy", "alembic", "amqtt", "fastapi", "uvicorn", "pandas", "numpy"}


def run(*command: object, cwd: Path) -> str:
    """Run a command as a user would who knows nothing of this checkout."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "CALLBOARD_"))}
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def source_files() -> set[str]:
    """Every file of the packages as it is called once installed."""
    return {
        str(file.relative_to(ROOT / folder))
        for package, folder in PACKAGES.items()
        for file in (ROOT / folder / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    } | {"callboard.py"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a source distribution, so that both are complete."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert len(list(folder.glob("callboard-*.tar.gz"))) == 1
    return next(folder.glob("callboard-*.whl"))


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="module")
def metadata(wheel, names):
    with zipfile.ZipFile(wheel) as archive:
        file = next(name for name in names if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(file).decode())


def base_requirements(requirements: list[str]) -> set[str]:
    """Names of what is installed without any extra on this machine."""
    parsed = map(Requirement, requirements)
    return {
        canonicalize_name(each.name)
        for each in parsed
        if each.marker is None or each.marker.evaluate({"extra": ""})
    }


def closure(wanted: set[str]) -> dict[str, importlib.metadata.Distribution]:
    """The installed distributions that ``wanted`` need, and what these need."""
    found: dict[str, importlib.metadata.Distribution] = {}
    while missing := wanted - found.keys():
        for name in missing:
            found[name] = importlib.metadata.distribution(name)
            wanted = wanted | base_requirements(found[name].requires or [])
    return found


@pytest.fixture(scope="module")
def machine(wheel, metadata, tmp_path_factory):
    """A fresh virtual environment with the wheel and its base dependencies, which are lent by this one."""
    folder = tmp_path_factory.mktemp("machine")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    site = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    for distribution in closure(base_requirements(metadata.get_all("Requires-Dist"))).values():
        for top in {
            file.parts[0] for file in distribution.files or [] if file.parts[0] not in {"..", "__pycache__"}
        }:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=folder,
    )
    return python


def test_every_source_file_is_in_the_wheel(names):
    assert source_files() - set(names) == set()


def test_nothing_else_is_in_the_wheel(names):
    extra = {name for name in names if ".dist-info/" not in name} - source_files()
    assert extra == set()


def test_only_callboard_lands_at_the_top_level(names):
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.startswith("callboard")} == set()
    assert {*PACKAGES, "callboard.py"} <= tops


def test_the_packages_say_that_they_are_typed(names):
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)


def test_the_licence_and_the_command_are_in_the_wheel(wheel, names):
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    with zipfile.ZipFile(wheel) as archive:
        entry = next(name for name in names if name.endswith("entry_points.txt"))
        assert "callboard = callboard_console.cli.main:main" in archive.read(entry).decode()


def test_the_base_dependencies_are_few_and_light(metadata):
    needed = closure(base_requirements(metadata.get_all("Requires-Dist")))
    assert set(needed) & HEAVY == set()
    assert {"paho-mqtt", "pydantic", "zeroconf", "typer", "rich"} <= set(needed)


def test_the_extras_are_what_the_readme_names(metadata):
    assert set(metadata.get_all("Provides-Extra")) == {
        "pi",
        "board",
        "postgres",
        "console",
        "farm",
        "all",
        "dev",
    }


def test_the_machine_has_none_of_the_heavy_packages(machine, tmp_path):
    code = "import importlib.util, sys; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])"
    assert run(machine, "-c", code, *HEAVY, cwd=tmp_path) == "[]\n"


@pytest.mark.parametrize(
    "module", ["callboard", "callboard_core", "callboard_nodes", "callboard_console.cli.main"]
)
def test_the_base_install_imports(machine, tmp_path, module):
    where = run(machine, "-c", f"import {module} as it; print(it.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(machine.parent.parent)


def test_the_base_install_has_the_command(machine, tmp_path):
    assert "Usage: callboard" in run(machine.parent / "callboard", "--help", cwd=tmp_path)


def test_the_base_install_makes_a_card_and_packs_its_own_wheel_again(machine, names, tmp_path):
    folder = tmp_path / "bootfs"
    folder.mkdir()
    for name in ("cmdline.txt", "config.txt", "user-data", "kernel8.img"):
        (folder / name).touch()
    run(machine.parent / "callboard", "flash", folder, "--id", "n", "--no-join", "--no-wheels", cwd=tmp_path)
    (packed,) = (folder / "callboard" / "wheels").glob("callboard-*.whl")
    with zipfile.ZipFile(packed) as archive:
        assert set(archive.namelist()) == set(names)
