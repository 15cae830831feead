"""Where the board is and who we are there: what was said outright, a board on this machine, or discovery."""

from __future__ import annotations

from callboard_core.discovery import find_board
from callboard_core.errors import CallboardError, Unavailable
from callboard_core.link import Credential, Endpoint
from callboard_core.listening import is_loopback
from callboard_core.runtime import Runtime, credential_file, read_runtime
from callboard_core.settings import Settings, read_secret

__all__ = ["Locator"]

#: Seconds to look for a board per attempt; attempts are repeated.
LOOK = 2.0
#: The user that nodes of the board's own machine connect as.
_ROLE = "node"


class Locator:
    """Finds the board anew before every connect, so that a board that moved is found again.

    Args:
        settings: ``node.board``, ``node.username`` and ``node.password`` or ``node.password_file`` win when set;
            otherwise a board that runs on ``state`` is taken, and then discovery is tried.
        role: as whom to connect to a board on this machine.
        given: the credential to use, whatever the settings say.

    The password that lies in the state folder is this machine's board's: it is not shown to whoever answers
    discovery from elsewhere, because anybody can.
    """

    def __init__(self, settings: Settings, *, role: str = _ROLE, given: Credential | None = None) -> None:
        self._settings, self._role, self._given = settings, role, given

    def endpoint(self) -> Endpoint:
        """Return where to connect.

        Raises:
            Unavailable: no board was found, or only one elsewhere that the password of the board on this
                machine is not meant for; the message says what to do.
        """
        settings = self._settings
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
        if not is_loopback(endpoint.host) and self._given_credential() is None and self._local_credential():
            raise Unavailable(
                f"no board runs on {settings.state}, and its password is not sent to the board that answers at "
                f"{endpoint}; give that board's password (--password-file, CALLBOARD_NODE_PASSWORD_FILE), "
                "or its address (--board) to trust it"
            )
        return endpoint

    def credential(self) -> Credential | None:
        """Return the username and password to connect with; ``None`` when there are none.

        Raises:
            BadRequest: the password file cannot be read.
        """
        return self._given_credential() or self._local_credential()

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
