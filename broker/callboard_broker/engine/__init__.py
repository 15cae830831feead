"""Engines: what stands behind the board's MQTT endpoint. One small interface, three ways to fill it."""

from __future__ import annotations

from typing import Protocol

from callboard_broker.access import Role, Users, credential_file
from callboard_core.link import Credential, Endpoint
from callboard_core.listening import reachable
from callboard_core.settings import Settings, read_secret

__all__ = ["Engine", "credential_for", "endpoint_of", "is_outside", "make_engine"]


class Engine(Protocol):
    """A broker that can be started and stopped."""

    @property
    def endpoint(self) -> Endpoint:
        """Where clients of this machine connect."""

    async def start(self) -> None:
        """Return once clients can connect.

        Raises:
            CallboardError: it cannot start; the message says why and what to do.
        """

    async def stop(self) -> None:
        """Stop in order; nothing is left running."""

    async def wait(self) -> None:
        """Return only when the engine has been stopped.

        Raises:
            CallboardError: the engine died by itself.
        """


def make_engine(settings: Settings, users: Users) -> Engine:
    """Return the engine that ``mqtt.engine`` asks for; nothing is started yet."""
    match settings.mqtt.engine:
        case "embedded":
            from callboard_broker.engine.embedded import EmbeddedEngine  # noqa: PLC0415 - brings amqtt along

            return EmbeddedEngine.from_settings(settings, users)
        case "mosquitto":
            from callboard_broker.engine.mosquitto import MosquittoEngine  # noqa: PLC0415

            return MosquittoEngine(settings=settings, users=users)
        case url:
            from callboard_broker.engine.external import ExternalEngine  # noqa: PLC0415

            return ExternalEngine(Endpoint.parse(url), credential_for(settings, Role.BOARD))


def is_outside(settings: Settings) -> bool:
    """Tell whether the engine is a broker that is not ours."""
    return settings.mqtt.engine not in {"embedded", "mosquitto"}


def endpoint_of(settings: Settings) -> Endpoint:
    """Return where clients of this machine connect."""
    if is_outside(settings):
        return Endpoint.parse(settings.mqtt.engine)
    return Endpoint(reachable(settings.mqtt.bind), settings.mqtt.port)


def credential_for(settings: Settings, role: Role) -> Credential:
    """Return what a client of ``role`` on this machine logs in to MQTT with.

    On a broker that is not ours that is the one user set for it; where none is set, it must know our users.

    Raises:
        BadRequest: the password file cannot be read.
    """
    if is_outside(settings) and settings.mqtt.username is not None:
        password = read_secret(settings.mqtt.password_file) if settings.mqtt.password_file else ""
        return Credential(settings.mqtt.username, password)
    return Credential(role.value, read_secret(credential_file(settings.state, role)))
