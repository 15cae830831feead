"""A broker that already runs somewhere: nothing is started, but what is wrong with it is said at once."""

from __future__ import annotations

import asyncio
import secrets
import socket

from callboard_core.errors import CallboardError, Unauthorized, Unavailable
from callboard_core.link import Credential, Endpoint, Link

__all__ = ["ExternalEngine"]

#: Seconds the broker has to accept a connection, and then a log-in.
_TIMEOUT = 5.0


class ExternalEngine:
    """An MQTT broker at a URL.

    Args:
        endpoint: where it is.
        credential: what the board logs in with; None for a broker that asks for none.
        timeout: seconds it has to answer.
    """

    def __init__(
        self, endpoint: Endpoint, credential: Credential | None = None, *, timeout: float = _TIMEOUT
    ) -> None:
        self._endpoint = endpoint
        self._credential = credential
        self._timeout = timeout
        self._stopped = asyncio.Event()

    @property
    def endpoint(self) -> Endpoint:
        """Where it is."""
        return self._endpoint

    async def start(self) -> None:
        """Check that it can be reached and logged in to.

        Raises:
            Unavailable: unknown name, refused, silent, or no MQTT broker.
            Unauthorized: it does not accept the credential.
        """
        await self._reach()
        await asyncio.to_thread(self._log_in)

    async def stop(self) -> None:
        """Let :meth:`wait` return; the broker is not ours to stop."""
        self._stopped.set()

    async def wait(self) -> None:
        """Return when stopped. A broker that goes away and comes back is every link's own business."""
        await self._stopped.wait()

    async def _reach(self) -> None:
        host, port = self._endpoint.host, self._endpoint.port
        try:
            async with asyncio.timeout(self._timeout):
                _, writer = await asyncio.open_connection(host, port)
        except socket.gaierror:
            raise Unavailable(
                f"the broker's name {host!r} is not known; check --engine {self._endpoint}"
            ) from None
        except TimeoutError:
            raise Unavailable(
                f"{host}:{port} does not answer within {self._timeout:g} s; check address, network and firewall"
            ) from None
        except OSError as error:
            raise Unavailable(
                f"cannot connect to {host}:{port}: {error.strerror or error}; is a broker running there?"
            ) from None
        writer.close()

    def _log_in(self) -> None:
        link = Link(
            client_id=f"board-check-{secrets.token_hex(4)}",
            endpoint=self._endpoint,
            credential=self._credential,
        )
        link.start()
        try:
            link.wait_connected(self._timeout)
        except Unauthorized:
            name = self._credential.username if self._credential else "nobody"
            raise Unauthorized(
                f"{self._endpoint} refuses user {name!r}; set mqtt.username and mqtt.password_file"
            ) from None
        except CallboardError as error:
            raise Unavailable(
                f"{self._endpoint} accepts connections but no MQTT session: {error.message}"
            ) from None
        finally:
            link.stop(timeout=1.0)
