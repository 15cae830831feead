"""Installs a node for good: user, folders, an environment, settings, units; and takes all that away again.

Everything can be done twice: installing over an installed node brings this version to it, in the spare environment.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from callboard_core.errors import BadRequest, Failed, Forbidden
from callboard_core.settings import load_settings
from callboard_core.trust import JoinCode
from callboard_core.wheels import gather
from callboard_nodes.install import units, venvs
from callboard_nodes.install.layout import NODE, SLOTS, USER, Layout
from callboard_nodes.install.venvs import SlotError
from callboard_nodes.update import rollback
from callboard_nodes.update.rollback import Book

__all__ = ["Installed", "Plan", "install", "interpreter", "outdated_units", "settings_text", "uninstall"]

#: Groups that own the devices of a Pi; those that exist here are given to the node's user.
_GROUPS = ("gpio", "i2c", "spi", "video", "render", "dialout")
_SECONDS = 60.0
#: systemd's own way to tell whether it runs (sd_booted).
_BOOTED = Path("/run/systemd/system")

Say = Callable[[str], object]


@dataclass(frozen=True)
class Plan:
    """What to install.

    Attributes:
        layout: where.
        settings: by their keys; written when there is no settings file yet, which must say the same otherwise.
        called: what the settings are called where they were given, by their keys.
        join: a join code that the node is to use, and that tells root whose updates to take.
        wheels: a folder of wheels; None for those of what runs here.
        extras: of the distribution, such as ``pi``.
        python: the interpreter; None for the system's.
        user: as whom it runs.
    """

    layout: Layout = field(default_factory=Layout)
    settings: Mapping[str, Any] = field(default_factory=dict)
    called: Mapping[str, str] = field(default_factory=dict)
    join: str | None = None
    wheels: Path | None = None
    extras: tuple[str, ...] = ()
    python: Path | None = None
    user: str = USER


@dataclass(frozen=True)
class Installed:
    """What was done."""

    version: str
    slot: str
    started: bool
    left: list[str]


def install(plan: Plan, say: Say = lambda _: None) -> Installed:
    """Install a node, and start it where systemd runs.

    Args:
        plan: what.
        say: told each step.

    Raises:
        Forbidden: this needs root.
        BadRequest: the settings are wrong, or the wheels do not fit.
        Failed: an environment cannot be made; what was installed before still runs.
    """
    layout = plan.layout
    _check_root(layout)
    _check_settings(plan)
    code = JoinCode.parse(plan.join) if plan.join else None
    python = plan.python or interpreter()
    left = list(_make_user(plan, say))
    _make_folders(plan)
    _write_settings(plan, say)
    say("making the environment")
    version, slot = _make_slot(plan, python)
    rollback.to_file(layout.rollback, Path(rollback.__file__).read_bytes(), 0o755)
    book = Book(layout.root)
    if code is not None:
        # Root knows this from who installs, and takes no word of the node's own user for it.
        book.trust(code.update_key)
        _write_join(plan)
    elif not book.pins()["key"]:
        left.append(
            "trusting a board's updates: for that, install with --join and a code from `callboard join`"
        )
    say("writing the units of systemd")
    _write_units(plan, python)
    started, more = _start(layout)
    return Installed(version, slot, started, [*left, *more])


def uninstall(layout: Layout, *, keep_state: bool, user: str = USER, say: Say = lambda _: None) -> None:
    """Stop a node and take it away; with its state folder, unless that is to stay.

    Raises:
        Forbidden: this needs root.
        BadRequest: no node is installed there.
    """
    _check_root(layout)
    if not layout.home.exists() and not any(layout.unit(name).exists() for name in units.texts()):
        raise BadRequest(f"no node is installed under {layout.root}")
    if _is_booted(layout):
        say("stopping the node")
        _run("systemctl", "disable", "--now", *units.ENABLED, check=False)
        _run("systemctl", "stop", "callboard-rollback.service", "callboard-update.service", check=False)
    for name in units.texts():
        layout.unit(name).unlink(missing_ok=True)
    for path in (*_wants(layout), layout.modules):
        path.unlink(missing_ok=True)
    if _is_booted(layout):
        _run("systemctl", "daemon-reload", check=False)
    folders = [layout.home, layout.etc, *([] if keep_state else [layout.state])]
    for folder in folders:
        say(f"removing {folder}")
        shutil.rmtree(folder, ignore_errors=True)
    if not keep_state and layout.root == Path("/") and _uid(user) is not None:
        _run("userdel", user, check=False)


def outdated_units(layout: Layout) -> list[str] | None:
    """Return which units are not as this version writes them; None where no node is installed.

    An update brings a new agent and leaves the units, which only an installation writes.
    """
    if not layout.unit(f"{NODE}.service").exists():
        return None
    found = {name: file for name in units.texts() if (file := layout.unit(name)).is_file()}
    return units.outdated({name: file.read_text() for name, file in found.items()}, layout)


def interpreter() -> Path:
    """Return the interpreter to install for: the system's, if it is of the version that runs this.

    What belongs to one person, such as that of pyenv or uv, cannot be read by the node's user.

    Raises:
        BadRequest: there is none; the message says what to do.
    """
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path in (Path(units.PYTHON), Path("/usr/bin", f"python{own}"), Path("/usr/local/bin/python3")):
        if path.exists() and _version_of(path) == own:
            return path
    raise BadRequest(
        f"this runs on Python {own}, and the system has another one or none; install callboard with the system's "
        "(`pipx install --python /usr/bin/python3 callboard`), or give --python and --wheels that fit it"
    )


def settings_text(plan: Plan) -> str:
    """Return the settings file of a new node, as TOML."""
    lines = ["# Settings of this machine's Callboard node; all of them: docs/reference/settings.md"]
    # TOML writes plain strings, numbers, booleans and lists of them as JSON does.
    written = {key: f"{key} = {json.dumps(value)}" for key, value in plan.settings.items()}
    lines += [line for key, line in written.items() if not key.startswith("node.")]
    lines += ["", "[node]", f"join_file = {json.dumps(str(plan.layout.join))}"]
    lines += [line.removeprefix("node.") for key, line in written.items() if key.startswith("node.")]
    return "\n".join(lines) + "\n"


# -- steps ---------------------------------------------------------------------------------------------------


def _check_root(layout: Layout) -> None:
    if os.geteuid() != 0 and layout.root == Path("/"):
        raise Forbidden("this needs root; run it with sudo")


def _make_user(plan: Plan, say: Say) -> Iterator[str]:
    """Make the user, with the groups of the devices; yields what could not be done."""
    if plan.layout.root != Path("/"):
        yield f"the user {plan.user}: it is made on the machine itself"
        return
    if _uid(plan.user) is None:
        say(f"making the user {plan.user}")
        home = str(plan.layout.state)
        shell = ["--shell", "/usr/sbin/nologin", "--no-create-home", "--home-dir", home]
        _run("useradd", "--system", "--user-group", *shell, plan.user)
    groups = [name for name in _GROUPS if _has_group(name)]
    if groups:
        _run("usermod", "--append", "--groups", ",".join(groups), plan.user)


def _make_folders(plan: Plan) -> None:
    layout = plan.layout
    for folder in (layout.home, layout.etc, layout.units):
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    layout.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    _give(layout.state, plan.user)


def _check_settings(plan: Plan) -> None:
    """Check what is wanted, and the settings file if there is one, before anything is done.

    Raises:
        BadRequest: the node could not read it, or the two differ; the message names the key.
    """
    file, nothing = plan.layout.config, Path(os.devnull)
    wanted = load_settings(file=nothing, env={}, flags=plan.settings, called=plan.called)
    if not file.exists():
        return
    found = load_settings(file=file, env={})
    there = {row.key: row.shown for row in found.rows()}
    for row in wanted.rows():
        if row.key in plan.settings and row.shown != there[row.key]:
            raise BadRequest(
                f"{file} stays as it is, and has {row.key} = {there[row.key] or 'nothing'}, not {row.shown}; "
                f"change it there, or leave {plan.called.get(row.key, row.key)} out"
            )
    if plan.join and found.value.node.join_file != plan.layout.join:
        raise BadRequest(
            f'{file} stays as it is, and would not have the join code used; write join_file = "{plan.layout.join}" '
            "into its [node]"
        )


def _write_settings(plan: Plan, say: Say) -> None:
    """Write the settings file if there is none."""
    file = plan.layout.config
    if file.exists():
        say(f"{file} stays as it is")
        return
    rollback.to_file(file, settings_text(plan).encode(), 0o640)
    if (uid := _uid(plan.user)) is not None and os.geteuid() == 0:
        os.chown(file, 0, _gid(plan.user) or uid)


def _make_slot(plan: Plan, python: Path) -> tuple[str, str]:
    layout = plan.layout
    before = venvs.current(layout.current)
    name = next(one for one in SLOTS if one != before)
    slot = layout.slot(name)
    wheels = plan.wheels or layout.wheels
    requirement = f"callboard[{','.join(plan.extras)}]" if plan.extras else "callboard"
    try:
        if plan.wheels is None:
            shutil.rmtree(layout.wheels, ignore_errors=True)
            gather(layout.wheels, extras=plan.extras)
        venvs.make(slot, python=python)
        venvs.fill(slot, wheels, [requirement])
        user = plan.user if layout.root == Path("/") and os.geteuid() == 0 else None
        version = venvs.self_test(slot, user=user)
    except SlotError as error:
        raise Failed(f"the environment {slot} cannot be made: {error}") from None
    os.sync()
    venvs.point(layout.current, slot)
    return version, name


def _write_join(plan: Plan) -> None:
    rollback.to_file(plan.layout.join, (plan.join or "").encode() + b"\n", 0o600)
    _give(plan.layout.join, plan.user)


def _write_units(plan: Plan, python: Path) -> None:
    """Write the units and enable them, as ``systemctl enable`` does; that needs no systemd that runs."""
    layout = plan.layout
    for name, text in units.texts(layout, user=plan.user, python=str(python)).items():
        rollback.to_file(layout.unit(name), text.encode())
    for link in _wants(layout):
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(Path("..") / link.name)


def _wants(layout: Layout) -> list[Path]:
    found = []
    for name in units.ENABLED:
        target = "timers.target" if name.endswith(".timer") else "multi-user.target"
        found.append(layout.units / f"{target}.wants" / name)
    return found


def _start(layout: Layout) -> tuple[bool, list[str]]:
    if not _is_booted(layout):
        return False, [
            f"starting {', '.join(units.ENABLED)}: systemd does not run here; they start when this system boots with it"
        ]
    _run("systemctl", "daemon-reload")
    _run("systemctl", "enable", *units.ENABLED)
    _run("systemctl", "restart", *units.ENABLED)
    return True, []


# -- small things --------------------------------------------------------------------------------------------


def _is_booted(layout: Layout) -> bool:
    return layout.root == Path("/") and _BOOTED.is_dir()


def _run(*command: str, check: bool = True) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{' '.join(command)}: {error}") from None
    if check and done.returncode:
        raise Failed(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


def _version_of(python: Path) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [python, "-I", "-c", code], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _uid(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _gid(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_gid
    except KeyError:
        return None


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _give(path: Path, user: str) -> None:
    uid, gid = _uid(user), _gid(user)
    if uid is not None and gid is not None and os.geteuid() == 0:
        os.chown(path, uid, gid)
