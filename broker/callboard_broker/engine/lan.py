"""The encrypted listeners for other machines, as each engine is told of them. Pure."""

from __future__ import annotations

from typing import Any

from callboard_broker.access.authority import TrustFiles
from callboard_core.addresses import join_address
from callboard_core.settings import Settings

__all__ = ["PORTS", "amqtt_listeners", "mosquitto_listeners"]

#: Listeners of ours, and the setting that gives each its port.
PORTS = {"lan": "lan.mqtt_port", "lan-ws": "lan.ws_port"}


def amqtt_listeners(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the listeners as amqtt's configuration has them; none unless ``lan.enabled``.

    A client may show a certificate; if it does, ours must have signed it.
    """
    lan, files = settings.lan, TrustFiles.of(settings.state)
    if not lan.enabled:
        return {}
    secure = {"ssl": True, "certfile": str(files.server), "keyfile": str(files.server)}
    secure["cafile"] = str(files.bundle)
    ports = {"lan": ("tcp", lan.mqtt_port), "lan-ws": ("ws", lan.ws_port)}
    # For amqtt no address is all of them, of both families.
    return {
        name: {
            "type": kind,
            "bind": f":{port}" if lan.bind == "::" else join_address(lan.bind, port),
            **secure,
        }
        for name, (kind, port) in ports.items()
    }


def mosquitto_listeners(settings: Settings) -> list[str]:
    """Return the lines of ``mosquitto.conf``; none unless ``lan.enabled``. Clients log in with passwords only."""
    lan, server = settings.lan, TrustFiles.of(settings.state).server
    if not lan.enabled:
        return []
    bind = "" if lan.bind == "::" else f" {lan.bind}"  # without an address, those of both families
    secure = [f"certfile {server}", f"keyfile {server}", "tls_version tlsv1.2"]
    return [
        f"listener {lan.mqtt_port}{bind}",
        *secure,
        f"listener {lan.ws_port}{bind}",
        "protocol websockets",
        *secure,
    ]
