"""The link against a real Mosquitto: reconnects, order, bounds, refusals, handlers that misbehave."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from callboard_core import topics
from callboard_core.errors import (
    BadRequest,
    Conflict,
    Expired,
    Overloaded,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from callboard_core.link import AsyncLink, Backoff, Credential, Endpoint, Message, Will
from callboard_core.link import inbox as inbox_module
from support.links import FAST, Collector, MakeLink, links
from support.mosquitto import Mosquitto, free_port, mosquitto
from support.timing import Stopwatch
from support.waiting import wait_until

__all__ = ["links", "mosquitto"]

NOBODY = topics.Address("callboard", "nobody", topics.Leaf.COMMAND, topics.Kind.ACTION, "x")


def test_messages_arrive_in_the_order_they_were_published(mosquitto: Mosquitto, links: MakeLink) -> None:
    got: Collector[Message] = Collector()
    reader, writer = links("reader", mosquitto.endpoint), links("writer", mosquitto.endpoint)
    reader.subscribe("callboard/+/event/#", got).ready.result(30)
    for number in range(2_000):
        writer.publish(f"callboard/writer/event/e{number % 4}", str(number).encode(), qos=number % 2)
    items = got.wait_for(2_000)
    for name in range(4):  # MQTT promises no order between topics of different QoS
        numbers = [int(m.payload) for m in items if m.topic.endswith(f"e{name}")]
        assert numbers == list(range(name, 2_000, 4))


def test_a_broker_that_is_killed_and_comes_back_is_found_again_and_subscriptions_are_in_force(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    got: Collector[Message] = Collector()
    lost: Collector[str] = Collector()
    reader, writer = links("reader", mosquitto.endpoint), links("writer", mosquitto.endpoint)
    reader.subscribe("callboard/writer/event/x", got).ready.result(30)
    reader.on_disconnect(lost)
    for round_number in range(3):
        mosquitto.kill()
        lost.wait_for(round_number + 1)
        assert not reader.connected
        mosquitto.start()
        reader.wait_connected(30)
        writer.wait_connected(30)
        writer.publish("callboard/writer/event/x", b"%d" % round_number, qos=1).result(30)
        got.wait_for(round_number + 1)
    assert [m.payload for m in got.items] == [b"0", b"1", b"2"]
    assert got.items[0].session < got.items[-1].session


def test_what_is_published_during_an_outage_goes_out_afterwards_once_and_in_order(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    got: Collector[Message] = Collector()
    writer = links("writer", mosquitto.endpoint)
    mosquitto.kill()
    wait_until(lambda: not writer.connected)
    futures = [writer.publish("callboard/writer/event/x", b"%d" % n, qos=1) for n in range(100)]
    with pytest.raises(TimeoutError):
        futures[0].result(0.05)
    # the reader is subscribed before the writer is back
    gate = threading.Event()
    writer.on_connect(lambda: gate.wait(10) and None)
    mosquitto.start()
    links("reader", mosquitto.endpoint).subscribe("callboard/writer/event/x", got).ready.result(30)
    gate.set()
    for future in futures:
        future.result(30)
    assert [int(m.payload) for m in got.wait_for(100)] == list(range(100))


def test_order_holds_when_the_broker_dies_in_the_middle_of_a_stream(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    got: Collector[Message] = Collector()
    reader, writer = links("reader", mosquitto.endpoint), links("writer", mosquitto.endpoint)
    reader.subscribe("callboard/writer/event/x", got).ready.result(30)
    both_back = threading.Event()
    writer.on_connect(lambda: both_back.wait(10) and None)
    both_back.set()
    futures: list[Future[None]] = []
    for number in range(3_000):
        if number == 1_500:
            both_back.clear()
            mosquitto.kill()
            wait_until(lambda: not reader.connected)
            mosquitto.start()
            reader.wait_connected(30)
            both_back.set()
        futures.append(writer.publish("callboard/writer/event/x", b"%d" % number, qos=1))
    for future in futures:
        future.result(20)
    reader.round_trip(5).result()
    numbers = [int(m.payload) for m in got.items]
    # What was acknowledged just before the kill may be lost with the broker, and what was not is sent again;
    # but nothing overtakes: every second sighting starts a rising run that ends at the last message.
    restart = next((i for i in range(1, len(numbers)) if numbers[i] <= numbers[i - 1]), len(numbers))
    assert numbers[:restart] == sorted(numbers[:restart])
    assert numbers[restart:] == sorted(numbers[restart:])
    assert numbers[-1] == 2_999
    assert set(range(1_500, 3_000)) <= set(numbers)


def test_only_the_last_of_several_retained_messages_of_a_topic_is_kept_during_an_outage(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    writer = links("writer", mosquitto.endpoint, outbox_limit=3)
    mosquitto.kill()
    wait_until(lambda: not writer.connected)
    futures = [writer.publish("callboard/writer/state/sensor/a", b"%d" % n, retain=True) for n in range(100)]
    assert writer.queued == 1
    mosquitto.start()
    for future in futures:
        future.result(30)
    got: Collector[Message] = Collector()
    links("reader", mosquitto.endpoint).subscribe("callboard/writer/state/#", got)
    assert got.wait_for(1)[0].payload == b"99"


def test_a_full_outbox_says_so_at_once(links: MakeLink) -> None:
    link = links("writer", Endpoint("127.0.0.1", free_port()), start=False, outbox_limit=10)
    link.start()
    for _ in range(10):
        link.publish("callboard/writer/event/x", b"", qos=1)
    with pytest.raises(Overloaded):  # nobody ever makes room: had it waited, it would for ever
        link.publish("callboard/writer/event/x", b"", qos=1)


def test_a_message_that_waited_too_long_is_not_sent(mosquitto: Mosquitto, links: MakeLink) -> None:
    writer = links("writer", mosquitto.endpoint)
    mosquitto.kill()
    wait_until(lambda: not writer.connected)
    stale = writer.publish("callboard/writer/event/x", b"stale", qos=1, expires_in=0.01)
    fresh = writer.publish("callboard/writer/event/x", b"fresh", qos=1, expires_in=60)
    time.sleep(0.02)
    mosquitto.start()
    fresh.result(30)
    with pytest.raises(Expired):
        stale.result(30)


@pytest.mark.parametrize("topic", ["", "a/+/b", "a/#", "x\0y", "a" * 65_536, "\ud800"])
def test_a_topic_that_cannot_be_published_to_is_refused(links: MakeLink, topic: str) -> None:
    link = links("writer", Endpoint("127.0.0.1", 1), start=False)
    with pytest.raises(BadRequest):
        link.publish(topic, b"")


@pytest.mark.parametrize("topic_filter", ["", "a/#/b", "a/b#", "+a", "x\0y"])
def test_a_filter_that_is_none_is_refused(links: MakeLink, topic_filter: str) -> None:
    link = links("reader", Endpoint("127.0.0.1", 1), start=False)
    with pytest.raises(BadRequest):
        link.subscribe(topic_filter, print)


def test_a_payload_over_the_limit_is_refused(links: MakeLink) -> None:
    link = links("writer", Endpoint("127.0.0.1", 1), start=False)
    with pytest.raises(TooLarge):
        link.publish("callboard/writer/event/x", b"x" * (1024 * 1024 + 1))


def test_a_broker_that_is_not_there_is_unavailable_and_the_reason_is_told(links: MakeLink) -> None:
    port = free_port()
    link = links("lonely", Endpoint("127.0.0.1", port), start=False)
    link.start()
    with pytest.raises(Unavailable, match=f"mqtt://127.0.0.1:{port}: .*refused"):
        link.wait_connected(0.5)
    with pytest.raises(Unavailable):
        link.wait_connected(5, retry=False)
    assert isinstance(link.call(NOBODY, {}, timeout=1).exception(0), Unavailable)
    assert isinstance(link.round_trip(1).exception(0), Unavailable)


def test_a_port_that_accepts_and_never_answers_is_given_up(
    links: MakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard_core.link.session.HANDSHAKE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        link = links("patient", Endpoint("127.0.0.1", silent.getsockname()[1]), start=False, keepalive=1)
        link.start()
        with pytest.raises(Unavailable, match="did not answer in time"):
            link.wait_connected(5, retry=False)


@pytest.fixture
def guarded(tmp_path: Path):
    """A broker that knows one user, ``ada``, with the password ``right``."""
    passwords = tmp_path / "passwords"
    set_password(passwords, "right", create=True)
    broker = Mosquitto(tmp_path, anonymous=False, extra=f"password_file {passwords}\n")
    broker.start()
    yield broker
    broker.kill()


def set_password(file: Path, password: str, *, create: bool = False) -> None:
    subprocess.run(["mosquitto_passwd", "-b", *(["-c"] if create else []), file, "ada", password], check=True)
    file.chmod(0o644)


def test_a_wrong_password_is_unauthorized_and_a_corrected_one_heals(
    guarded: Mosquitto, links: MakeLink, tmp_path: Path
) -> None:
    link = links("ada", guarded.endpoint, start=False, credential=Credential("ada", "wrong"), reconnect=FAST)
    link.start()
    begun = Stopwatch()
    with pytest.raises(Unauthorized, match=r"user 'ada'.*trying again every 0\.2 s"):
        link.wait_connected(30)
    assert begun.within(5), begun
    set_password(tmp_path / "passwords", "wrong")
    guarded.reload()
    wait_until(lambda: link.connected)
    link.wait_connected(30)


def test_the_credential_is_asked_for_again_at_every_attempt(guarded: Mosquitto, links: MakeLink) -> None:
    passwords = iter(["wrong", "wrong"])
    link = links(
        "ada",
        guarded.endpoint,
        start=False,
        credential=lambda: Credential("ada", next(passwords, "right")),
        reconnect=FAST,
    )
    link.start()
    wait_until(lambda: link.connected)


def test_a_refused_credential_is_tried_again_slowly(guarded: Mosquitto, links: MakeLink) -> None:
    asked: list[float] = []

    def credential() -> Credential:
        asked.append(time.monotonic())
        return Credential("ada", "wrong")

    patient = Backoff(first=0.01, cap=0.02, refused=0.4)
    link = links("ada", guarded.endpoint, start=False, credential=credential, reconnect=patient)
    link.start()
    wait_until(lambda: len(asked) >= 3)
    assert asked[2] - asked[1] >= 0.4


def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(Credential("ada", "secret"))


def test_the_endpoint_is_asked_for_again_at_every_attempt(mosquitto: Mosquitto, links: MakeLink) -> None:
    places = iter([Endpoint("127.0.0.1", free_port()), Endpoint("127.0.0.1", free_port())])
    link = links("seeker", lambda: next(places, mosquitto.endpoint))
    assert link.connected


def test_an_endpoint_that_cannot_be_found_is_looked_for_again(mosquitto: Mosquitto, links: MakeLink) -> None:
    tries = []

    def find() -> Endpoint:
        tries.append(1)
        if len(tries) == 1:
            raise Unavailable("no board was found")
        if len(tries) == 2:
            raise ZeroDivisionError
        return mosquitto.endpoint

    links("seeker", find)
    assert len(tries) == 3


def test_hooks_publish_before_everything_that_waits_and_in_their_order(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    got: Collector[Message] = Collector()
    links("reader", mosquitto.endpoint).subscribe("callboard/writer/event/x", got).ready.result(30)
    writer = links("writer", mosquitto.endpoint, start=False)
    for text in (b"queued-1", b"queued-2"):
        writer.publish("callboard/writer/event/x", text)
    writer.on_connect(lambda: writer.publish("callboard/writer/event/x", b"first", qos=1).result(30))
    writer.on_connect(lambda: 1 // 0)
    writer.on_connect(lambda: writer.publish("callboard/writer/event/x", b"second") and None)
    writer.start()
    assert [m.payload for m in got.wait_for(4)] == [b"first", b"second", b"queued-1", b"queued-2"]


def test_a_hook_registered_while_connected_runs_at_once(mosquitto: Mosquitto, links: MakeLink) -> None:
    ran = threading.Event()
    links("late", mosquitto.endpoint).on_connect(ran.set)
    assert ran.wait(30)


def test_a_handler_that_raises_stops_nothing(mosquitto: Mosquitto, links: MakeLink) -> None:
    got: Collector[Message] = Collector()
    link = links("reader", mosquitto.endpoint)

    def broken(_: Message) -> None:
        raise RuntimeError("on purpose")

    link.subscribe("callboard/reader/event/x", broken)
    link.subscribe("callboard/reader/event/x", got).ready.result(30)
    for _ in range(3):
        link.publish("callboard/reader/event/x", b"", qos=1)
    got.wait_for(3)
    assert link.connected


def test_a_handler_that_blocks_stops_neither_publishing_nor_pings_nor_calls_nor_reconnects(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    release, blocked = threading.Event(), threading.Event()
    got: Collector[Message] = Collector()
    link = links("stuck", mosquitto.endpoint, keepalive=1)
    other = links("other", mosquitto.endpoint)
    other.subscribe("callboard/stuck/event/#", got).ready.result(30)

    def block(_: Message) -> None:
        blocked.set()
        release.wait(30)

    link.subscribe("callboard/other/event/block", block).ready.result(30)
    other.publish("callboard/other/event/block", b"", qos=1)
    assert blocked.wait(30)
    session = link.session
    time.sleep(2.5)  # more than 1.5 times the keep-alive: pings must have gone out
    assert link.connected
    assert link.session == session
    link.publish("callboard/stuck/event/a", b"", qos=1).result(30)
    with pytest.raises(TimedOut):
        link.call(NOBODY, {}, timeout=0.2).result(30)
    mosquitto.kill()
    wait_until(lambda: not link.connected)
    mosquitto.start()
    link.wait_connected(30)
    link.publish("callboard/stuck/event/b", b"", qos=1).result(30)
    release.set()


def test_a_call_can_be_waited_for_inside_a_handler(mosquitto: Mosquitto, links: MakeLink) -> None:
    outcome: Collector[BaseException | None] = Collector()
    link = links("caller", mosquitto.endpoint)

    def handler(_: Message) -> None:
        outcome(link.call(NOBODY, {}, timeout=0.2).exception(5))
        link.publish("callboard/caller/event/y", b"", qos=1).result(30)
        outcome(None)

    link.subscribe("callboard/caller/event/x", handler).ready.result(30)
    link.publish("callboard/caller/event/x", b"")
    assert isinstance(outcome.wait_for(2)[0], TimedOut)


def test_a_stuck_handler_costs_qos_0_messages_which_are_counted_and_no_qos_1_message(
    mosquitto: Mosquitto, links: MakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "PATIENCE", 0.05)
    release = threading.Event()
    got: Collector[Message] = Collector()
    link = links("stuck", mosquitto.endpoint, inbox_limit=50)

    def block(message: Message) -> None:
        release.wait(30)
        got(message)

    link.subscribe("callboard/writer/event/#", block).ready.result(30)
    writer = links("writer", mosquitto.endpoint)
    for number in range(300):
        writer.publish("callboard/writer/event/zero", b"%d" % number)
        writer.publish("callboard/writer/event/one", b"%d" % number, qos=1)
    writer.round_trip(5).result()
    wait_until(lambda: link.dropped >= 200)
    # The connection itself is well.
    link.publish("callboard/stuck/event/x", b"", qos=1).result(30)
    release.set()
    got.wait(lambda items: sum(m.qos for m in items) == 300)
    ones = [int(m.payload) for m in got.items if m.qos]
    zeros = [int(m.payload) for m in got.items if not m.qos]
    assert ones == list(range(300))
    assert len(zeros) + link.dropped == 300
    assert zeros == sorted(zeros)


def test_a_burst_that_handlers_can_follow_loses_nothing_whatever_the_size_of_the_inbox(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    got: Collector[Message] = Collector()
    link = links("reader", mosquitto.endpoint, inbox_limit=20)
    link.subscribe("callboard/writer/event/x", got, qos=0).ready.result(30)
    writer = links("writer", mosquitto.endpoint)
    for number in range(5_000):
        writer.publish("callboard/writer/event/x", b"%d" % number)
    assert [int(m.payload) for m in got.wait_for(5_000)] == list(range(5_000))
    assert link.dropped == 0


def test_two_handlers_of_one_filter_both_receive_and_one_can_leave(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    stays: Collector[Message] = Collector()
    leaves: Collector[Message] = Collector()
    link = links("reader", mosquitto.endpoint)
    kept = link.subscribe("callboard/reader/event/x", stays)
    gone = link.subscribe("callboard/reader/event/x", leaves)
    for one in (kept, gone):
        one.ready.result(30)
    link.publish("callboard/reader/event/x", b"1")
    leaves.wait_for(1)
    gone.cancel()
    link.publish("callboard/reader/event/x", b"2")
    stays.wait_for(2)
    kept.cancel()
    link.round_trip(5).result()
    link.publish("callboard/reader/event/x", b"3")
    link.round_trip(5).result()
    assert [m.payload for m in leaves.items] == [b"1"]
    assert [m.payload for m in stays.items] == [b"1", b"2"]


def test_a_round_trip_ends_after_everything_before_it_was_handled(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    handled: list[bytes] = []
    link = links("reader", mosquitto.endpoint)

    def slow(message: Message) -> None:
        time.sleep(0.002)
        handled.append(message.payload)

    link.subscribe("callboard/reader/event/x", slow).ready.result(30)
    for number in range(100):
        link.publish("callboard/reader/event/x", b"%d" % number)
    link.round_trip(5).result()
    assert len(handled) == 100


def test_the_will_is_published_when_the_link_dies_and_not_when_it_stops(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    got: Collector[Message] = Collector()
    links("reader", mosquitto.endpoint).subscribe("callboard/+/status", got).ready.result(30)
    for name in ("polite", "dying"):
        links(name, mosquitto.endpoint, will=Will(topics.status("callboard", name), b"lost"))
    polite = links("polite", mosquitto.endpoint, will=Will(topics.status("callboard", "polite"), b"lost"))
    got.items.clear()  # the first one was taken over
    polite.stop(farewell=[Message(topics.status("callboard", "polite"), b"bye", 1, True)])
    assert [m.payload for m in got.wait_for(1)] == [b"bye"]


def test_the_farewell_is_the_last_thing_said(mosquitto: Mosquitto, links: MakeLink) -> None:
    got: Collector[Message] = Collector()
    links("reader", mosquitto.endpoint).subscribe("callboard/leaver/#", got).ready.result(30)
    link = links("leaver", mosquitto.endpoint)
    for number in range(500):
        link.publish("callboard/leaver/event/x", b"%d" % number, qos=1)
    link.stop(farewell=[Message("callboard/leaver/status", b"bye", 1, True)])
    items = got.wait(lambda items: items and items[-1].payload == b"bye")
    assert len(items) == 501
    assert threading.active_count() < 50
    with pytest.raises(Unavailable):
        link.publish("callboard/leaver/event/x", b"")


def test_stop_ends_what_waits_and_all_threads(links: MakeLink) -> None:
    link = links("lonely", Endpoint("127.0.0.1", free_port()), start=False)
    link.start()
    waiting = link.publish("callboard/lonely/event/x", b"", qos=1)
    begun = Stopwatch()
    link.stop()
    assert begun.within(2), begun
    assert isinstance(waiting.exception(1), Unavailable)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("lonely-")]
    with pytest.raises(Unavailable, match="stopped"):
        link.wait_connected(1)


def test_a_link_can_be_stopped_from_its_own_handler(mosquitto: Mosquitto, links: MakeLink) -> None:
    done = threading.Event()
    link = links("suicidal", mosquitto.endpoint)

    def handler(_: Message) -> None:
        link.stop()
        done.set()

    link.subscribe("callboard/suicidal/event/x", handler).ready.result(30)
    link.publish("callboard/suicidal/event/x", b"")
    assert done.wait(30)
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("suicidal-")])


def test_two_clients_of_one_id_throw_each_other_out_ever_more_slowly(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    backoff = Backoff(first=0.05, cap=5.0, steady=5.0)
    twins = [links("twin", mosquitto.endpoint, start=False, reconnect=backoff) for _ in range(2)]
    connects: list[Collector[float]] = [Collector() for _ in twins]
    for twin, seen in zip(twins, connects, strict=True):
        twin.on_connect(lambda seen=seen: seen(time.monotonic()))
        twin.start()
    for seen in connects:
        times = seen.wait_for(7, timeout=60)
        # Six pauses of at least 25, 50, … 800 ms; without the rule each one would be 25 to 50 ms.
        assert times[6] - times[0] > 1.3


def test_a_gate_keeps_the_link_out_until_it_opens(mosquitto: Mosquitto, links: MakeLink) -> None:
    held = [True]
    link = links("guest", mosquitto.endpoint, start=False)

    def gate(_: Endpoint) -> None:
        if held[0]:
            raise Conflict("the name is taken")

    link.before_first_connect(gate)
    link.start()
    with pytest.raises(Conflict, match="taken"):
        link.wait_connected(30)
    held[0] = False
    wait_until(lambda: link.connected)


def test_a_broker_that_freezes_is_given_up_after_the_keep_alive(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    lost: Collector[str] = Collector()
    link = links("watcher", mosquitto.endpoint, keepalive=1)
    link.on_disconnect(lost)
    mosquitto.process.send_signal(signal.SIGSTOP)
    try:
        begun = Stopwatch()
        lost.wait_for(1)
        assert begun.within(4), begun
    finally:
        mosquitto.process.send_signal(signal.SIGCONT)
    link.wait_connected(20)


def test_a_handler_that_is_slow_for_long_does_not_cost_the_connection(
    mosquitto: Mosquitto, links: MakeLink
) -> None:
    handled: Collector[Message] = Collector()
    link = links("slow", mosquitto.endpoint, keepalive=1, inbox_limit=20)

    def slow(message: Message) -> None:
        time.sleep(0.05)
        handled(message)

    link.subscribe("callboard/writer/event/x", slow).ready.result(30)
    writer = links("writer", mosquitto.endpoint)
    for _ in range(500):
        writer.publish("callboard/writer/event/x", b"x" * 10_000)
    handled.wait(lambda _: link.dropped, timeout=20)
    time.sleep(2.5)  # more than 1.5 times the keep-alive
    assert handled.items
    assert link.session == 1
    assert link.connected


async def test_the_asyncio_face_publishes_subscribes_and_calls(mosquitto: Mosquitto) -> None:
    async with AsyncLink(client_id="aio", endpoint=mosquitto.endpoint) as link:
        async with link.messages("callboard/aio/event/#") as messages:
            for number in range(10):
                await link.publish("callboard/aio/event/x", b"%d" % number, qos=1)
            async with asyncio.timeout(5):
                numbers = [int((await anext(messages)).payload) for _ in range(10)]
        assert numbers == list(range(10))
        with pytest.raises(TimedOut):
            await link.call(NOBODY, {}, timeout=0.1)
        with pytest.raises(BadRequest):
            await link.call(NOBODY, {}, timeout=float("inf"))
        got: Collector[Message] = Collector()
        await link.subscribe("callboard/aio/event/y", got)
        await link.publish("callboard/aio/event/y", b"")
        await link.round_trip(5)
        assert len(got.items) == 1


async def test_the_asyncio_face_reports_a_broker_that_is_not_there() -> None:
    with pytest.raises(Unavailable):
        async with AsyncLink(
            client_id="aio", endpoint=Endpoint("127.0.0.1", free_port()), connect_timeout=0.2
        ):
            pass
