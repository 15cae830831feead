"""amqtt's own plugins, unchanged, on the embedded engine."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from callboard_core.errors import BadRequest
from support import wire
from support.embedded import embedded_engine

AUTHENTICATION = "amqtt.plugins.authentication."
TOPICS = "amqtt.plugins.topic_checking."


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("passwords") / "passwords"
    hasher = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8_192),))
    file.write_text(f"ada:{hasher.hash('right')}\ngrace:{hasher.hash('also right')}\n")
    return file


def test_the_file_plugin_decides_who_connects(passwords: Path) -> None:
    config = {"plugins": {AUTHENTICATION + "FileAuthPlugin": {"password_file": str(passwords)}}}
    with embedded_engine(config=config) as engine:
        with wire.connect(engine.address(), "a", username="ada", password="right") as ada:
            assert ada.is_quiet()
        with wire.Wire(engine.address()) as wrong:
            assert wrong.connect("b", username="ada", password="wrong").code == 4
        with wire.Wire(engine.address()) as nobody:
            assert nobody.connect("c").code == 5


@pytest.mark.parametrize("allowed", [True, False])
def test_the_anonymous_plugin_decides_who_connects(allowed: bool) -> None:
    config = {"plugins": {AUTHENTICATION + "AnonymousAuthPlugin": {"allow_anonymous": allowed}}}
    with embedded_engine(config=config) as engine, wire.Wire(engine.address()) as client:
        assert (client.connect("a").code == 0) is allowed


def test_all_authentication_plugins_must_agree(passwords: Path) -> None:
    config = {
        "plugins": {
            AUTHENTICATION + "AnonymousAuthPlugin": {"allow_anonymous": True},
            AUTHENTICATION + "FileAuthPlugin": {"password_file": str(passwords)},
        }
    }
    with embedded_engine(config=config) as engine, wire.Wire(engine.address()) as client:
        assert client.connect("a", username="ada", password="wrong").code == 4


def test_the_access_list_plugin_decides_about_publish_and_subscribe(passwords: Path) -> None:
    rules = {"acl": {"ada": ["news/#"], "grace": ["news/#"]}, "publish_acl": {"ada": ["news/ada"]}}
    config = {
        "plugins": {
            AUTHENTICATION + "FileAuthPlugin": {"password_file": str(passwords)},
            TOPICS + "TopicAccessControlListPlugin": rules,
        }
    }
    with (
        embedded_engine(config=config) as engine,
        wire.connect(engine.address(), "a", username="ada", password="right") as ada,
        wire.connect(engine.address(), "g", username="grace", password="also right") as grace,
    ):
        assert grace.subscribe(("news/#", 1), ("secret/#", 1)).codes == (1, 0x80)
        grace.publish("news/grace", b"not allowed", qos=1)
        ada.publish("news/grace", b"not allowed", qos=1)
        ada.publish("news/ada", b"allowed", qos=1)
        assert grace.message().payload == b"allowed"
        assert grace.is_quiet()


def test_the_taboo_plugin_is_asked_about_delivery_too() -> None:
    config = {"plugins": {TOPICS + "TopicTabooPlugin": {}}}
    with (
        embedded_engine(config=config) as engine,
        wire.connect(engine.address(), "a") as reader,
        wire.connect(engine.address(), "admin", username="admin", password="") as admin,
    ):
        reader.subscribe("#")
        admin.publish("prohibited", b"1", qos=1)
        admin.publish("fine", b"2", qos=1)
        assert reader.message().topic == "fine"


def test_the_event_logger_hears_of_clients_and_packets(caplog: pytest.LogCaptureFixture) -> None:
    config = {
        "plugins": {
            "amqtt.plugins.logging_amqtt.EventLoggerPlugin": {},
            "amqtt.plugins.logging_amqtt.PacketLoggerPlugin": {},
        }
    }
    caplog.set_level(logging.DEBUG, "amqtt.broker.plugins")
    with embedded_engine(config=config) as engine:
        with wire.connect(engine.address(), "a") as client:
            client.subscribe(("x", 1))
            client.publish("x", b"payload", qos=1)
            client.message()
            client.disconnect()
        engine.call(int)
    for event in (
        "client_connected",
        "client_disconnected",
        "client_subscribed",
        "message_received",
        "message_broadcast",
    ):
        assert f"on_broker_{event}" in caplog.text
    assert "a <-in-- PublishPacket" in caplog.text
    assert "a -out-> PublishPacket" in caplog.text


@pytest.mark.filterwarnings("ignore:.*psutil:DeprecationWarning")
def test_the_system_plugin_publishes_and_counts() -> None:
    config = {"plugins": {"amqtt.plugins.sys.broker.BrokerSysPlugin": {"sys_interval": 1}}}
    with embedded_engine(config=config) as engine, wire.connect(engine.address(), "a") as client:
        client.subscribe("$SYS/broker/messages/publish/received", "$SYS/broker/messages/retained/count")
        client.publish("x", b"1", qos=1, retain=True)
        seen = {}
        while len(seen) < 2 or seen["$SYS/broker/messages/publish/received"] == b"0":
            message = client.message()
            seen[message.topic] = message.payload
        assert int(seen["$SYS/broker/messages/publish/received"]) >= 1
        assert int(seen["$SYS/broker/messages/retained/count"]) >= 1


def test_an_unknown_configuration_key_is_an_error() -> None:
    with pytest.raises(BadRequest, match="listnrs"), embedded_engine(config={"listnrs": {}}):
        pass
