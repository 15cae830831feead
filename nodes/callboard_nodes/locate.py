"""Where the board is and who we are there: what was said outright, an enrolment, a board on this machine, or discovery."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

from callboard_core.discovery import Found, find_board, find_boards
from callboard_core.errors import CallboardError, Unauthorized, Unavailable
from callboard_core.link import Credential, Endpoint
from callboard_core.listening import is_loopback
from callboard_core.runtime import Runtime, credential_file, read_runtime
from callboard_core.settings import Settings, read_secret
from callboard_nodes.enrolment.store import Enrolment, Store
from callboard_nodes.enrolment.whereabouts import Whereabouts

__all__ = ["Locator"]

#: Seconds to look for a board per attempt; attempts are repeated.
LOOK = 2.0
#: The user that nodes of the board's own machine connect as.
_ROLE = "node"


class Locator:
    """Finds the board anew before every connect, so that a board that moved is found again.

    Args:
        settings: ``node.board``, ``node.username`` and ``node.password`` or ``node.password_file`` win when set;
            then an enrolment is taken, then a board that runs on ``state``, and then discovery is tried.
        role: as whom to connect to a board on this machine.
        given: the credential to use, whatever the settings say.
        state: the node's state folder, where its enrolment is; ``node.state`` when None.

    The password that lies in the state folder is this machine's board's: it is not shown to whoever answers
    discovery from elsewhere, because anybody can. What a node got when it enrolled is only shown to the board that has
    proven itself. The enrolment of a node says where the board is to other clients of its machine too; its credential
    is the node's alone.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        role: str = _ROLE,
        given: Credential | None = None,
        state: Path | None = None,
    ) -> None:
        self._settings, self._role, self._given = settings, role, given
        self.store = Store(state or settings.node.state)
        self.where = Whereabouts(self.store, self.search, _encrypted(settings.node.board))

    @property
    def enrolled(self) -> bool:
        """True if the board is the one that the node has joined."""
        board = self._settings.node.board
        if board and _encrypted(board) is None:
            return False
        if self._role != _ROLE and not board and self._local() is not None:
            return False
        return self.where.enrolled

    @property
    def bound(self) -> bool:
        """True if what the node logs in with is what it got when it enrolled, which is good for its id only."""
        return self.enrolled and self._is_the_node()

    def enrolment(self) -> Enrolment | None:
        """Return the enrolment that counts; None if there is none.

        Raises:
            Failed: it is damaged.
        """
        return self.store.read() if self.enrolled else None

    def endpoint(self) -> Endpoint:
        """Return where to connect.

        Raises:
            Unavailable: no board was found, or only one elsewhere that the password of the board on this
                machine is not meant for; the message says what to do.
            Unauthorized: a client of a machine whose node has joined has no credential of its own.
            Failed: the enrolment is damaged.
        """
        settings = self._settings
        if self.enrolled:
            self._check_own()
            return self.where.endpoint()
        if settings.node.board:
            return Endpoint.parse(settings.node.board)
        local = self._local()
        if local is not None:
            return Endpoint(local.mqtt.host, local.mqtt.port)
        look = settings.discovery
        if not look.enabled:
            raise Unavailable(
                f"no board runs on {settings.state} and discovery is off; give its address (--board mqtt://host:1883)"
            )
        found = find_board(settings.site, LOOK, port=look.port, mdns=look.mdns)
        endpoint = Endpoint.parse(found.mqtt_url)
        if found.mqtts is not None and self._given_credential() is None and not is_loopback(endpoint.host):
            raise Unavailable(
                f"the board of site {found.site!r} at {endpoint.host} lets machines in with a join code: run "
                "`callboard join` there, and here `callboard node --join CODE`"
            )
        if not is_loopback(endpoint.host) and self._given_credential() is None and self._local_credential():
            raise Unavailable(
                f"no board runs on {settings.state}, and its password is not sent to the board that answers at "
                f"{endpoint}; give that board's password (--password-file, CALLBOARD_NODE_PASSWORD_FILE), "
                "or its address (--board) to trust it"
            )
        return endpoint

    def tls(self) -> ssl.SSLContext | None:
        """Return what encrypts the connection to the broker; None where the system's authorities decide."""
        if not self.enrolled:
            return None
        return self.where.context() if self._is_the_node() else self.where.web_context()

    def web_tls(self) -> ssl.SSLContext | None:
        """Return what encrypts the connection to the HTTP API; None where the system's authorities decide."""
        return self.where.web_context() if self.enrolled else None

    def http(self) -> str | Callable[[], str]:
        """Return where the HTTP API is; empty for where the board's card says it is."""
        said = self._settings.node.http
        return said if said or not self.enrolled else self.where.url

    def credential(self) -> Credential | None:
        """Return the username and password to connect with; ``None`` when there are none.

        Raises:
            BadRequest: the password file cannot be read.
            Failed: the enrolment is damaged.
        """
        given = self._given_credential()
        if given is None and self.enrolled:
            return self.where.credential() if self._role == _ROLE else None
        return given or self._local_credential()

    def _is_the_node(self) -> bool:
        return self._role == _ROLE and self._given_credential() is None

    def _check_own(self) -> None:
        if self._role != _ROLE and self._given_credential() is None:
            raise Unauthorized(
                f"this machine has joined a board as a node, whose credential is not for others ({self.store.path}); "
                "give the username and password of a user of that board"
            )

    def search(self, site: str) -> Iterator[Found]:
        """Yield the boards of a site that answer a search; only hints."""
        look = self._settings.discovery
        if look.enabled:
            yield from find_boards(site, LOOK, port=look.port, mdns=look.mdns)

    def _given_credential(self) -> Credential | None:
        node = self._settings.node
        if self._given is not None:
            return self._given
        if node.password is not None:
            return Credential(node.username or _ROLE, node.password)
        if node.password_file is not None:
            return Credential(node.username or _ROLE, read_secret(node.password_file))
        return None

    def _local(self) -> Runtime | None:
        try:
            found = read_runtime(self._settings.state)
        except CallboardError:
            return None  # a damaged file must not keep a node from a board elsewhere
        return found if found is not None and found.site == self._settings.site else None

    def _local_credential(self) -> Credential | None:
        local = self._local()
        told = local.credentials.get(self._role) if local is not None else None
        if told is not None:
            return Credential(told.username, read_secret(told.password_file))
        name = (self._settings.node.username or _ROLE) if self._role == _ROLE else self._role
        file = credential_file(self._settings.state, name)
        return Credential(name, read_secret(file)) if file.exists() else None


def _encrypted(board: str) -> Endpoint | None:
    """The address that was given, if what answers there has to prove itself."""
    endpoint = Endpoint.parse(board) if board else None
    return endpoint if endpoint is not None and endpoint.tls else None
