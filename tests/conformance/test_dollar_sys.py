"""What the broker says about itself under `$SYS/broker/`, with the names mosquitto gave them."""

from __future__ import annotations

from support.engines import Engine

NUMBERS = {
    *("clients/connected", "clients/disconnected", "clients/total", "clients/maximum"),
    *("messages/received", "messages/sent", "messages/stored", "bytes/received", "bytes/sent"),
    *("publish/messages/received", "publish/messages/sent", "publish/messages/dropped"),
    *("publish/bytes/received", "publish/bytes/sent", "retained messages/count", "subscriptions/count"),
    *("load/messages/received/1min", "load/messages/sent/5min", "load/publish/received/15min"),
    "load/connections/1min",
}


def test_the_broker_publishes_its_numbers(engine: Engine, unique: str) -> None:
    """Mosquitto publishes a number only once it has changed, so there has to be some traffic."""
    with engine.connect(unique) as wire:
        wire.subscribe("$SYS/broker/#", unique)
        missing, found = set(NUMBERS), {}
        while missing:
            wire.publish(unique, b"x")
            message = wire.message(30)
            found[message.topic.removeprefix("$SYS/broker/")] = message.payload
            missing -= found.keys()
        for what in NUMBERS:
            float(found[what])


def test_the_broker_says_what_it_is_and_for_how_long(engine: Engine, unique: str) -> None:
    with engine.connect(unique) as wire:
        wire.subscribe("$SYS/broker/uptime", "$SYS/broker/version")
        found = {m.topic.rpartition("/")[2]: m.payload.decode() for m in wire.messages(2, 30)}
        assert found["uptime"].endswith(" seconds")
        assert found["version"].startswith(
            {"mosquitto": "mosquitto version ", "embedded": "callboard "}[engine.name]
        )
