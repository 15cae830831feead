"""What ``callboard flash`` is told, as configs of cards; and join codes for them, from the board."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from callboard_console.cli.board_http import open_board, path
from callboard_console.cli.context import Access
from callboard_console.cli.join import seconds_of
from callboard_core.boot import CardConfig
from callboard_core.errors import BadRequest, CallboardError
from callboard_core.settings import load_settings, read_secret
from callboard_core.trust import JoinCode
from callboard_nodes.flash.fleet import make_config, read_fleet, read_keys, read_settings

__all__ = ["Joins", "check_options", "check_settings", "configs", "shared"]

#: What people type for the fields of a config.
_CALLED = {
    "id": "--id",
    "label": "--label",
    "tags": "--tag",
    "user": "--user",
    "ssh_keys": "--ssh-key",
    "password_hash": "--console-password-file",
    "ssid": "--wifi",
    "passphrase": "--wifi-password-file",
    "country": "--country",
    "timezone": "--timezone",
    "keyboard": "--keyboard",
    "buses": "--bus",
    "settings": "--settings",
    "join": "--join",
    "extras": "--extra",
}


def check_options(given: Mapping[str, object]) -> None:
    """Check that options go together, so that none is left out without a word.

    Args:
        given: what was given, by the option's name; nothing of it counts that is empty.

    Raises:
        BadRequest: they do not.
    """
    for one, other in (("--join", "--no-join"), ("--wheels", "--no-wheels")):
        if given[one] and given[other]:
            raise BadRequest(f"{one} and {other} do not go together; give one of them")
    if not (given["--wifi"] or given["--fleet"]):
        for name in ("--wifi-password-file", "--wifi-hidden"):
            if given[name]:
                raise BadRequest(f"{name} goes with --wifi; name the network")
    if given["--extra"] and not given["--no-wheels"]:
        raise BadRequest(
            "--extra has parts that are built on the machine itself, which must fetch them: add --no-wheels"
        )


def shared(
    *,
    password_file: Path | None,
    passphrase_file: Path | None,
    settings: Path | None,
    join: str,
    ssh_keys: Sequence[str] | None,
    **values: Any,
) -> dict[str, Any]:
    """Return the fields of a config that options give; see :func:`callboard_nodes.flash.fleet.make_config`.

    Raises:
        BadRequest: a file cannot be read, or the join code is none.
    """
    found = {name: value for name, value in values.items() if value not in (None, "", [])}
    found["ssh_keys"] = [key for text in ssh_keys or [] for key in read_keys(text)]
    if password_file is not None:
        found["password_hash"] = _hashed(read_secret(password_file))
    if passphrase_file is not None:
        found["passphrase"] = read_secret(passphrase_file)
    elif "ssid" in found:
        found["passphrase"] = typer.prompt(
            f"Password of {found['ssid']} (empty for an open network)",
            default="",
            show_default=False,
            hide_input=True,
            err=True,
        )
    if settings is not None:
        found["settings"] = read_settings(settings)
    return found | _joining(join) if join else found


def _joining(text: str) -> dict[str, Any]:
    code = JoinCode.parse(text)
    code.check()
    return {"join": code.text, "site": code.site}


def _hashed(password: str) -> str:
    """Hash a password as crypt(5) does (SHA-512); Python cannot any more."""
    try:
        done = subprocess.run(
            ["openssl", "passwd", "-6", "-stdin"],
            input=password + "\n",
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        raise BadRequest(
            "a console password needs the program openssl; install it, or leave the option out"
        ) from None
    return done.stdout.strip()


def configs(values: dict[str, Any], fleet: Path | None) -> list[CardConfig]:
    """Return the configs of all cards.

    Raises:
        BadRequest: anything is wrong; the message says where.
    """
    if fleet is None:
        if "id" not in values:
            raise BadRequest("give the node an id with --id, as in --id greenhouse; or a table with --fleet")
        return [make_config(values, _CALLED)]
    if "id" in values:
        raise BadRequest("--id is for one card; with --fleet, each row has its own")
    if values.get("join"):
        raise BadRequest(
            "--join is for one card; with --fleet, each row has its own, or gets one from the board"
        )
    try:
        text = fleet.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"cannot read the table {fleet}: {error}") from None
    return [_joined(config) for config in read_fleet(text, values, _CALLED)]


def _joined(config: CardConfig) -> CardConfig:
    try:
        return config.model_copy(update=_joining(config.join)) if config.join else config
    except CallboardError as error:
        raise BadRequest(f"{config.id}, column join: {error.message}") from None


def check_settings(cards: list[CardConfig]) -> None:
    """Check that agents will understand their settings.

    Raises:
        BadRequest: one does not; the message names the key.
    """
    from callboard_core.boot import boot_files

    for config in cards:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "callboard.toml"
            file.write_bytes(boot_files(config)["callboard/callboard.toml"])
            try:
                load_settings(file=file, env={})
            except CallboardError as error:
                raise BadRequest(f"{config.id}: {error.message}") from None


class Joins:
    """Gives every card a join code of its own, with which only its node joins, also if it is known already."""

    def __init__(self, access: Access, expires: str) -> None:
        self._access = access
        self._seconds = seconds_of(expires, "--join-expires")

    def give(self, config: CardConfig) -> CardConfig:
        """Return the config with a new join code, and the board's authorities.

        Raises:
            CallboardError: the board makes none; the message says what else can be done.
        """
        wanted = {"uses": 1, "seconds": self._seconds, "ask": False, "id": config.id}
        try:
            with open_board(self._access, "operator") as api:
                made = api.post(path("joins"), wanted)
                ca = b"".join(api.blocks(path("trust", "ca"))).decode()
        except CallboardError as error:
            remedy = "give a join code with --join, or none with --no-join"
            raise type(error)(f"no join code for {config.id}: {error.message}; or {remedy}") from None
        return config.model_copy(update={**_joining(made["code"]), "ca": ca})
