"""What every verb starts from: the settings in force, the board to talk to, and the credential to do it with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callboard_core.errors import NotFound, TimedOut, Unauthorized, Unavailable

if TYPE_CHECKING:
    from callboard_console.cli.known import Known
    from callboard_core.directory import Directory
    from callboard_core.link import Credential, Endpoint, Link
    from callboard_core.settings import Loaded, Settings

__all__ = [
    "Access",
    "check_own",
    "connect",
    "elsewhere",
    "find_board",
    "find_credential",
    "given_credential",
    "load",
    "read_directory",
]

#: Seconds for discovery, to connect, and to read the directory.
FIND_TIMEOUT = 3.0
CONNECT_TIMEOUT = 5.0
DIRECTORY_TIMEOUT = 10.0


_CALLED = {"node.board": "--board"}


@dataclass(frozen=True, kw_only=True)
class Access:
    """How the user said to reach the board; None means not said."""

    state: Path | None = None
    config: Path | None = None
    site: str | None = None
    board: str | None = None
    username: str | None = None
    password_file: Path | None = None

    def settings(self) -> Settings:
        """Return the settings in force; the site is that of the board that is known, unless one was set."""
        loaded = load(
            self.config, {"state": self.state, "site": self.site, "node.board": self.board}, _CALLED
        )
        known = elsewhere(loaded.value)
        if known is None or loaded.sources["site"] != "default":
            return loaded.value
        return loaded.value.model_copy(update={"site": known.site})


def load(
    config: Path | None, flags: Mapping[str, Any], called: Mapping[str, str] | None = None
) -> Loaded[Settings]:
    """Load the settings as this command line has them; ``called`` are the names of flags that have others elsewhere.

    Raises:
        BadRequest: a setting is unknown or wrong.
    """
    from callboard_core.settings import load_settings

    return load_settings(file=config, flags=flags, called=called)


def elsewhere(settings: Settings) -> Known | None:
    """Return the board on another machine that is meant and known by its authority, if one is."""
    from callboard_console.cli.known import known_board
    from callboard_core.runtime import read_runtime

    if settings.node.board:
        from callboard_core.link import Endpoint

        return known_board(settings) if Endpoint.parse(settings.node.board).tls else None
    return known_board(settings) if read_runtime(settings.state) is None else None


def find_board(settings: Settings, *, timeout: float = FIND_TIMEOUT) -> Endpoint:
    """Return the board's address: what is set, else the board of this machine, else the one it knows, else what answers.

    Raises:
        NotFound: no board runs here, and looking for one is switched off.
        Unavailable: nobody answers.
    """
    from callboard_core.link import Endpoint
    from callboard_core.runtime import read_runtime

    if settings.node.board:
        return Endpoint.parse(settings.node.board)
    runtime = read_runtime(settings.state)
    if runtime is not None:
        return Endpoint.parse(runtime.mqtt.url)
    known = elsewhere(settings)
    if known is not None:
        return known.endpoint
    if not settings.discovery.enabled:
        raise NotFound(
            "no board runs here and discovery is switched off; name one with --board mqtt://HOST:PORT"
        )
    return _discover(settings, timeout)


def _discover(settings: Settings, timeout: float) -> Endpoint:
    from callboard_core.discovery import find_board as ask_around
    from callboard_core.link import Endpoint

    look = settings.discovery
    found = ask_around(settings.site, timeout, port=look.port, mdns=look.mdns)
    return Endpoint.parse(found.mqtt_url)


def find_credential(access: Access, settings: Settings, role: str, endpoint: Endpoint) -> Credential:
    """Return what to log in with: as the options say, else the board's own user for ``role`` on this machine.

    The latter is for a board on this machine or one that was named, not for whoever answers discovery.

    Raises:
        NotFound: neither is there, or the latter is not for ``endpoint``.
        BadRequest: a password file cannot be read.
    """
    from callboard_core.link import Credential
    from callboard_core.settings import read_secret

    given = given_credential(access, settings, role)
    if given is not None:
        return given
    name = access.username or role
    own = check_own(settings, name)
    if not _is_ours(settings, endpoint):
        raise NotFound(
            f"the board that answers at {endpoint} was not named and is not on this machine: the password in "
            f"{settings.state} is not sent there; give its password with --password-file, or name it with --board"
        )
    return Credential(name, read_secret(own))


def given_credential(access: Access, settings: Settings, role: str) -> Credential | None:
    """Return what options or settings say to log in with.

    Raises:
        BadRequest: a password file cannot be read.
    """
    from callboard_core.link import Credential
    from callboard_core.settings import read_secret

    if access.password_file is not None:
        return Credential(access.username or role, read_secret(access.password_file))
    set_for_all = settings.mqtt
    if access.username is None and set_for_all.username is not None and set_for_all.password_file is not None:
        return Credential(set_for_all.username, read_secret(set_for_all.password_file))
    return None


def check_own(settings: Settings, name: str) -> Path:
    """Return where the state folder keeps the password of a user.

    Raises:
        NotFound: it does not.
    """
    from callboard_core.runtime import credential_file

    own = credential_file(settings.state, name)
    if not own.exists():
        raise NotFound(
            f"no password for user {name!r}: say who you are with --username, and name a file with the password with "
            f"--password-file (on the board it is {own.name} in its state folder)"
        )
    return own


def _is_ours(settings: Settings, endpoint: Endpoint) -> bool:
    from callboard_core.listening import is_loopback
    from callboard_core.runtime import read_runtime

    if settings.node.board or is_loopback(endpoint.host):
        return True
    runtime = read_runtime(settings.state)
    return runtime is not None and (runtime.mqtt.host, runtime.mqtt.port) == (endpoint.host, endpoint.port)


@contextmanager
def connect(access: Access, role: str, *, timeout: float = CONNECT_TIMEOUT) -> Iterator[Link]:
    """Connect to the board as a user of ``role``; the link is stopped at the end.

    Raises:
        NotFound: no board, or no password for it.
        Unauthorized: the board does not accept the password.
        Unavailable: the board does not answer.
        TimedOut: nobody answered what was sent meanwhile.
    """
    import logging
    import secrets

    from callboard_core.artifacts import HttpArtifacts
    from callboard_core.link import Link

    # What goes wrong is told as the error it leads to, once.
    logging.getLogger("callboard").addHandler(logging.NullHandler())
    settings = access.settings()
    endpoint = find_board(settings)
    credential = find_credential(access, settings, role, endpoint)
    known = elsewhere(settings)
    tls, url = (known.context(), known.url(endpoint.host)) if known is not None else (None, "")
    name = f"cli-{secrets.token_hex(4)}"
    link = Link(client_id=name, endpoint=endpoint, site=settings.site, credential=credential, tls=tls)
    link.artifacts = HttpArtifacts.of(link, credential, settings.node.http or url, tls=tls)
    link.start()
    try:
        _wait_connected(link, credential, endpoint, timeout)
        yield link
    except TimedOut as error:
        raise _unanswered(error, credential, role) from None
    finally:
        link.stop()


def _unanswered(error: TimedOut, credential: Credential, role: str) -> TimedOut:
    """Name the other cause, of which a broker says nothing: that a user other than the usual one may not command."""
    if role != "operator" or credential.username in {"operator", "admin"}:
        return error
    return TimedOut(f"{error.message}; or user {credential.username!r} may not command, as operators may")


def _wait_connected(link: Link, credential: Credential, endpoint: Endpoint, timeout: float) -> None:
    from callboard_core.board_http import TOKEN_PREFIX

    try:
        link.wait_connected(timeout)
    except Unauthorized:
        if credential.password.startswith(TOKEN_PREFIX):
            raise Unauthorized(
                "an API token is for what is done over HTTP (job, farm, project, join, update, push, audit, user, role, "
                "token, trust); this talks to the broker: give a password"
            ) from None
        raise Unauthorized(
            f"{endpoint} refuses user {credential.username!r} or the password; "
            "check --username and --password-file"
        ) from None
    except Unavailable as error:
        raise Unavailable(f"{endpoint} does not answer: {error.message}") from None


@contextmanager
def read_directory(link: Link, *, timeout: float = DIRECTORY_TIMEOUT) -> Iterator[Directory]:
    """Return the board's directory, complete.

    Raises:
        TimedOut: it did not arrive in time.
    """
    from callboard_core.directory import Directory

    directory = Directory(link)
    directory.start()
    directory.wait_complete(timeout)
    yield directory
