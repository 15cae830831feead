"""The encrypted listeners as each engine is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from callboard_broker.engine.lan import amqtt_listeners, mosquitto_listeners
from callboard_core.errors import BadRequest
from callboard_core.settings import Settings, load_settings

FOLDER = Path("/state")


def settings(**lan: Any) -> Settings:
    return Settings.model_validate({"state": FOLDER, "lan": {"enabled": True, **lan}})


def test_without_lan_there_are_none() -> None:
    closed = settings(enabled=False)
    assert amqtt_listeners(closed) == {}
    assert mosquitto_listeners(closed) == []


@pytest.mark.parametrize(
    ("bind", "amqtt", "mosquitto"),
    [
        ("0.0.0.0", "0.0.0.0:8883", "listener 8883 0.0.0.0"),
        ("192.0.2.7", "192.0.2.7:8883", "listener 8883 192.0.2.7"),
        ("fd00::7", "[fd00::7]:8883", "listener 8883 fd00::7"),
        ("::", ":8883", "listener 8883"),
    ],
)
def test_each_engine_is_told_the_address_in_its_own_words(bind: str, amqtt: str, mosquitto: str) -> None:
    assert amqtt_listeners(settings(bind=bind))["lan"]["bind"] == amqtt
    assert mosquitto_listeners(settings(bind=bind))[0] == mosquitto


def test_both_listeners_show_the_boards_certificate() -> None:
    listeners = amqtt_listeners(settings())
    assert {name: one["type"] for name, one in listeners.items()} == {"lan": "tcp", "lan-ws": "ws"}
    assert {one["certfile"] for one in listeners.values()} == {"/state/trust/server.pem"}
    assert {one["cafile"] for one in listeners.values()} == {"/state/trust/bundle.crt"}
    lines = mosquitto_listeners(settings())
    assert lines.count("certfile /state/trust/server.pem") == 2
    assert lines.count("tls_version tlsv1.2") == 2


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CALLBOARD_LAN_BIND", "board.local", "IP address"),
        ("CALLBOARD_LAN_NAMES", "not a name", "host names or IP addresses"),
        ("CALLBOARD_LAN_MQTT_PORT", "70000", "TCP port"),
    ],
)
def test_settings_that_cannot_be_are_named(variable: str, value: str, said: str) -> None:
    with pytest.raises(BadRequest, match=rf"lan.*{said}"):
        load_settings(env={variable: value}, file=None)
