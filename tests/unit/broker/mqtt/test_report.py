from __future__ import annotations

import json

import pytest

from callboard_broker.mqtt.report import Reporter
from support.hubs import NOW, Broker


def test_totals_carry_mosquittos_names() -> None:
    broker = Broker()
    reporter = Reporter(broker.hub, "1.2", NOW)
    broker.client("away", clean=False).connection.close()
    client = broker.client("here")
    client.subscribe(("x", 0))
    client.publish("x", b"12345", retain=True)
    client.publish("x", b"12345")
    found = dict(reporter.changes(NOW + 10))
    assert found["$SYS/broker/version"] == "callboard 1.2"
    assert found["$SYS/broker/uptime"] == "10 seconds"
    expected = {
        "clients/total": "2",
        "clients/connected": "1",
        "clients/disconnected": "1",
        "publish/messages/received": "2",
        "publish/messages/sent": "2",
        "retained messages/count": "1",
        "subscriptions/count": "1",
    }
    assert {name: found[f"$SYS/broker/{name}"] for name in expected} == expected


def test_only_what_changed_is_said_again() -> None:
    reporter = Reporter(Broker().hub, "1", NOW)
    assert len(reporter.changes(NOW + 10)) > 40
    assert [topic for topic, _ in reporter.changes(NOW + 20)] == ["$SYS/broker/uptime"]


def test_loads_are_weighted_averages_per_minute() -> None:
    broker = Broker()
    reporter = Reporter(broker.hub, "1", NOW)
    broker.hub.counters.publish_in = 100
    first = float(dict(reporter.changes(NOW + 60))["$SYS/broker/load/publish/received/1min"])
    assert first == pytest.approx(100 * (1 - 0.3679), abs=0.1)
    later = float(dict(reporter.changes(NOW + 120))["$SYS/broker/load/publish/received/1min"])
    assert later == pytest.approx(first * 0.3679, abs=0.1)


def test_clients_that_fight_for_an_id_are_named() -> None:
    broker = Broker()
    reporter = Reporter(broker.hub, "1", NOW)
    for _ in range(4):
        broker.client("twin")
    flapping = dict(reporter.changes(NOW + 10))["$SYS/broker/callboard/flapping"]
    assert json.loads(flapping) == [{"client": "twin", "takeovers": 3}]
    assert dict(reporter.changes(NOW + 20))["$SYS/broker/callboard/flapping"] == "[]"


def test_slow_readers_and_top_talkers_are_named() -> None:
    broker = Broker()
    reporter = Reporter(broker.hub, "1", NOW)
    slow, talker = broker.client("slow"), broker.client("talker")
    slow.subscribe(("x", 1))
    slow.connection.choke(True)
    for _ in range(10):
        talker.publish("x", qos=1)
    found = dict(reporter.changes(NOW + 10))
    assert json.loads(found["$SYS/broker/callboard/slow"]) == [
        {"client": "slow", "dropped": 0, "waiting": 10}
    ]
    assert json.loads(found["$SYS/broker/callboard/talkers"]) == [{"client": "talker", "rate": 1.0}]


def test_who_has_caught_up_is_slow_no_more() -> None:
    broker = Broker()
    reporter = Reporter(broker.hub, "1", NOW)
    slow, talker = broker.client("slow"), broker.client("talker")
    slow.subscribe(("x", 0))
    slow.connection.choke(True)
    for _ in range(10):
        talker.publish("x")
    slow.connection.choke(False)
    topic = "$SYS/broker/callboard/slow"
    assert json.loads(dict(reporter.changes(NOW + 10))[topic])[0]["dropped"] > 0
    assert dict(reporter.changes(NOW + 20))[topic] == "[]"


def test_every_bound_is_told() -> None:
    broker = Broker()
    told = dict(Reporter(broker.hub, "1", NOW).changes(NOW + 10))["$SYS/broker/callboard/limits"]
    assert json.loads(told) == broker.hub.limits.model_dump(mode="json")
