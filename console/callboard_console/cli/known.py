"""The board on another machine that this one knows by its authority: a person has pinned it, or a node here has joined it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING

from callboard_core.addresses import join_address, split_address
from callboard_core.errors import BadRequest, Failed, Unavailable

if TYPE_CHECKING:
    import ssl

    from callboard_core.link import Endpoint
    from callboard_core.settings import Settings
    from callboard_core.trust.enrolment import Reach

__all__ = ["Known", "fetch", "keep", "known_board"]

_AUTHORITY, _REACH = "/api/v1/trust/ca", "/api/v1/trust/reach"
_HTTPS = 8443


@dataclass(frozen=True)
class Known:
    """A board elsewhere.

    Attributes:
        site: its site.
        host: where it was last.
        mqtt_port: MQTT over TLS; 0 where the broker is not the board's own.
        http_port: HTTPS.
        bundle: its authorities, PEM.
    """

    site: str
    host: str
    mqtt_port: int
    http_port: int
    bundle: str

    @property
    def endpoint(self) -> Endpoint:
        """Where MQTT is.

        Raises:
            Unavailable: at a broker that is not the board's own.
        """
        from callboard_core.link import Endpoint

        if not self.mqtt_port:
            raise Unavailable(f"the broker of the board at {self.host} is another one; name it with --board")
        return Endpoint(self.host, self.mqtt_port, tls=True)

    def url(self, host: str = "") -> str:
        """Return where the HTTP API is, if the board is at ``host`` now."""
        return f"https://{join_address(host or self.host, self.http_port)}"

    def context(self) -> ssl.SSLContext:
        """Return what trusts this board only.

        Raises:
            BadRequest: what was kept is damaged.
        """
        from callboard_core.trust import pinned_context

        return pinned_context(self.bundle)


def known_board(settings: Settings) -> Known | None:
    """Return the board that was pinned, else the one that the node of this machine has joined.

    Raises:
        Failed: what was kept of it is damaged.
    """
    return _pinned(settings.state) or _joined(settings)


def _file(state: Path) -> Path:
    return state / "board.json"


def _pinned(state: Path) -> Known | None:
    import json

    try:
        return Known(**json.loads(_file(state).read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise Failed(
            f"{_file(state)} is damaged; remove it, and pin the board again (`callboard trust pin`)"
        ) from None


def _joined(settings: Settings) -> Known | None:
    folders = [settings.node.state, *sorted(settings.state.glob("nodes/*"))]
    joined = next((folder for folder in folders if (folder / "enrolment").exists()), None)
    if joined is None:
        return None
    from callboard_nodes.enrolment import Store

    found = Store(joined).read()
    if found is None:
        return None
    record = found.record
    host, http_port = split_address(record.addresses[0])
    return Known(record.site, host, record.mqtt_port, http_port, found.bundle)


def keep(state: Path, known: Known) -> Path:
    """Keep a board for later commands; returns the file."""
    import json
    from dataclasses import asdict

    from callboard_core.runtime import write_private

    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(_file(state), json.dumps(asdict(known), indent=2) + "\n")
    return _file(state)


def fetch(where: str, fingerprint: str) -> Known:
    """Ask a board for its authority, and take it only if it is the one that is expected.

    Args:
        where: a join code, whose token is not used, or ``host[:port]`` of the HTTPS listener.
        fingerprint: SHA-256 of the authority, hexadecimal; not needed with a join code.

    Raises:
        BadRequest: one of the two is none.
        NotTheBoard: somebody else answers.
        Unavailable: nobody answers.
    """
    from callboard_core.trust import JoinCode

    if re.match(r"\s*CB\d+-", where, re.IGNORECASE):
        code = JoinCode.parse(where)
        return _first(list(code.addresses), code.authority)
    wanted = fingerprint.replace(":", "").replace(" ", "").lower()
    if len(wanted) != 64 or not set(wanted) <= set("0123456789abcdef"):  # noqa: PLR2004 - SHA-256
        raise BadRequest(
            "--fingerprint: write the 64 hexadecimal digits that `callboard trust show` prints on the board"
        )
    return _first([_with_port(where)], wanted)


def _with_port(where: str) -> str:
    """``host:port``, with the usual port if none is named; a bare IPv6 address names none."""
    bare = where.strip("[]")
    if ":" not in where or _is_ipv6(bare):
        return join_address(bare, _HTTPS)
    return where


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _first(addresses: list[str], wanted: str) -> Known:
    failed: list[Unavailable] = []
    for address in addresses:
        try:
            return _fetch(address, wanted)
        except Unavailable as error:
            failed.append(error)
    raise Unavailable("; ".join(error.message for error in failed))


def _fetch(address: str, wanted: str) -> Known:
    from callboard_core.messages import parse
    from callboard_core.trust import pinned_context
    from callboard_core.trust.enrolment import Reach
    from callboard_nodes.enrolment import Peer, verified

    host, _ = split_address(address)
    board = verified(address, wanted)
    bundle = board.get(_AUTHORITY)
    reach: Reach = parse(Reach, Peer(address, pinned_context(bundle)).get(_REACH).encode())
    return Known(reach.site, host, reach.mqtt_port or 0, reach.http_port, bundle)
