"""What the audit log learns from commands and answers alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callboard_broker.services.ledger import Ledger, concerns
from callboard_core.calls.envelopes import encode_call, encode_result

FAN = "callboard/pump/command/control/fan"
REPLY = "callboard/anns-laptop/reply"


@pytest.fixture
def ledger() -> Ledger:
    return Ledger("callboard")


def command(ledger: Ledger, number: str = "1", *, t: float = 100.0, topic: str = FAN, **args: Any) -> None:
    payload = encode_call(number, REPLY, args, now=t, timeout=5.0)
    ledger.saw(t, "ann", "anns-laptop", "10.0.0.7", topic, payload)


def answer(ledger: Ledger, payload: bytes | dict[str, Any], *, by: str = "pump", topic: str = REPLY) -> None:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    ledger.saw(101.0, "node", by, "10.0.0.9", topic, data)


def results(ledger: Ledger, now: float = 101.0) -> list[tuple[str, str, int]]:
    ledger.settle(now)
    return [(entry.user, entry.result, entry.times) for entry in ledger.take(100)]


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        (FAN, True),
        (REPLY, True),
        ("callboard/pump/command", False),
        ("callboard/pump/state/control/fan", False),
        ("elsewhere/pump/command/control/fan", False),
        ("callboard/pump/reply/more", False),
        ("callboard", False),
    ],
)
def test_commands_and_answers_are_what_it_looks_at(topic: str, expected: bool):
    assert concerns("callboard", topic) is expected


def test_a_command_is_told_with_what_came_of_it_once_that_is_known(ledger: Ledger):
    command(ledger, speed=3)
    answer(ledger, {"id": "1", "ack": True})
    answer(ledger, {"id": "1", "progress": 0.5})
    assert results(ledger) == []
    answer(ledger, {"id": "1", "ok": True, "result": None})
    assert ledger.settle(101.0)
    [entry] = ledger.take(10)
    assert entry == (100.0, "ann", "anns-laptop", "10.0.0.7", FAN, "ok", "", 1, "command")
    assert results(ledger) == []


@pytest.mark.parametrize(
    ("payload", "result"),
    [
        ({"id": "1", "ok": False, "error": {"code": "not_found", "message": "no fan"}}, "not_found"),
        ({"id": "1", "ok": False}, "failed"),
        ({"result": "x" * 10_000, "id": "1", "ok": True}, "timeout"),
        ({"id": "1", "ok": True, "result": "x" * 10_000}, "ok"),
        ({"id": "1", "ok": False, "error": {"code": "failed", "message": "x" * 10_000}}, "failed"),
        (encode_result("1", b"\x00" * 10, msgpack=True), "ok"),
        (encode_result("1", b"\x00" * 10_000, msgpack=True), "ok"),
    ],
)
def test_the_result_is_the_answers(ledger: Ledger, payload: bytes | dict[str, Any], result: str):
    command(ledger)
    answer(ledger, payload)
    assert results(ledger, now=106.0) == [("ann", result, 1)]


def test_a_large_command_and_one_with_bytes_are_understood(ledger: Ledger):
    command(ledger, "1", text="x" * 100_000)
    command(ledger, "2", data=b"x" * 100_000)
    for number in ("1", "2"):
        answer(ledger, {"id": number, "ok": True})
    assert results(ledger) == [("ann", "ok", 2)]


def test_no_answer_is_a_timeout_when_the_call_has_expired(ledger: Ledger):
    command(ledger)
    assert results(ledger, now=105.0) == []
    assert results(ledger, now=105.1) == [("ann", "timeout", 1)]


def test_only_the_one_who_was_asked_can_answer(ledger: Ledger):
    command(ledger)
    answer(ledger, {"id": "1", "ok": True}, by="impostor")
    answer(ledger, {"id": "1", "ok": True}, topic="callboard/somebody/reply")
    assert results(ledger) == []
    answer(ledger, {"id": "1", "ok": False, "error": {"code": "expired", "message": "late"}})
    assert results(ledger) == [("ann", "expired", 1)]


def test_what_wants_no_answer_was_sent(ledger: Ledger):
    for payload in (b"{}", b"", b"not JSON", b"[1]", b"\xff", b'{"id": 1}', b"\x81", b"\xdf\xff\xff\xff\xff"):
        ledger.saw(100.0, "ann", "x", "10.0.0.7", FAN, payload)
    assert results(ledger) == [("ann", "sent", 8)]


def test_a_repeated_call_is_one_command(ledger: Ledger):
    command(ledger)
    command(ledger)
    answer(ledger, {"id": "1", "ok": True})
    assert results(ledger) == [("ann", "ok", 1)]


def test_a_refused_command_is_told_at_once(ledger: Ledger):
    ledger.refused(100.0, "viewer", "x", "10.0.0.7", FAN)
    assert results(ledger) == [("viewer", "forbidden", 1)]


def test_a_flood_is_bounded_and_what_is_left_out_is_told(ledger: Ledger):
    for number in range(50_000):
        ledger.saw(100.0, "eve", "x", "10.0.0.7", f"callboard/n{number}/command/action/x", b"{}")
    told = 0
    while ledger.settle(101.0):
        told += sum(entry.times for entry in ledger.take(1000))
    assert told == 50_000
    assert not ledger._open


def test_where_the_sender_is_unknown_the_reply_topic_says_who_it_was():
    ledger = Ledger("callboard", trusting=True)
    ledger.saw(100.0, "", "", "", FAN, encode_call("1", REPLY, {}, now=100.0, timeout=5.0))
    ledger.saw(100.0, "", "", "", REPLY, b'{"id": "1", "ok": true}')
    ledger.settle(101.0)
    [entry] = ledger.take(10)
    assert (entry.user, entry.client, entry.result) == ("", "anns-laptop", "ok")


def test_a_refused_log_in_is_told_apart_from_commands(ledger: Ledger):
    ledger.kept_out(100.0, "mallory", "x", "10.0.0.7", "unauthorized")
    ledger.settle(101.0)
    [entry] = ledger.take(10)
    assert (entry.what, entry.user, entry.topic, entry.result) == ("login", "mallory", "", "unauthorized")
