"""The link: one MQTT connection that comes back by itself, with publish, subscribe and call.

Four threads serve it, so that no user code can stall the connection:

- *network* owns the socket and runs nothing but this package;
- *dispatcher* runs the handlers of subscriptions, in the order of arrival;
- *greeter* runs the hooks of connects and disconnects, in their order;
- *worker* completes futures (their callbacks run there: keep them short) and keeps the time-outs.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import Any

from pydantic import JsonValue

from callboard_core import topics
from callboard_core.calls.artifacts import ArtifactStore
from callboard_core.errors import BadRequest, CallboardError, TooLarge, Unavailable
from callboard_core.link import inbox
from callboard_core.link.backoff import Backoff
from callboard_core.link.calls import Caller
from callboard_core.link.connector import Connector, Login
from callboard_core.link.hooks import Hook, Hooks
from callboard_core.link.inbox import Handler, Inbox
from callboard_core.link.lane import Lane, Timer
from callboard_core.link.outbox import Outbox, Outgoing, fail
from callboard_core.link.subscriptions import Subscription, Subscriptions
from callboard_core.link.values import Credential, Endpoint, Message, Will
from callboard_core.link.waker import Waker
from callboard_core.messages import MESSAGE_LIMIT, Payload
from callboard_core.topics import Address

__all__ = ["Link"]

_log = logging.getLogger("callboard.link")

#: A topic's length is a 16-bit number of bytes (MQTT 3.1.1, 1.5.3).
_LONGEST_TOPIC = 65_535


class Link:
    """One connection to the broker, usable from any thread.

    Args:
        client_id: stable id, also the second level of the link's reply topic; a node's is its node id.
        endpoint: where the broker is; a callable is asked again before every attempt.
        site: first level of all topics.
        credential: who connects; a callable is asked again before every attempt.
        will: what the broker publishes if the link dies.
        keepalive: seconds; the broker gives a silent link up after 1.5 times this.
        outbox_limit: most messages that wait to be sent.
        inbox_limit: most messages that wait for their handlers.
        reconnect: how long to wait between attempts.
        tls: used for ``mqtts`` endpoints; a callable is asked again before every attempt. By default the system's
            authorities are trusted.
        message_limit: largest payload to send, in bytes.

    Attributes:
        direct: whether calls may go straight to a worker's process, where it offers that.
        artifacts: where results that are larger than a message are kept and fetched; None: they fail.
    """

    def __init__(
        self,
        *,
        client_id: str,
        endpoint: Endpoint | Callable[[], Endpoint],
        site: str = "callboard",
        credential: Credential | Callable[[], Credential | None] | None = None,
        will: Will | None = None,
        keepalive: int = 10,
        outbox_limit: int = 10_000,
        inbox_limit: int = 50_000,
        reconnect: Backoff = Backoff(),  # noqa: B008 - frozen
        tls: ssl.SSLContext | Callable[[], ssl.SSLContext | None] | None = None,
        message_limit: int = MESSAGE_LIMIT,
    ) -> None:
        self.client_id = topics.check_id(client_id, "client id")
        self.site = topics.check_id(site, "site")
        self.reply_topic = topics.reply(site, client_id)
        self.artifacts: ArtifactStore | None = None
        self.direct = True
        self._limit = message_limit
        self._stop_hooks = Hooks()
        self._waker = Waker()
        self._outbox = Outbox(outbox_limit)
        patience = min(inbox.PATIENCE, keepalive / 3)  # the broker's pings must not wait too long
        self._inbox = Inbox(
            f"{client_id}-dispatcher", inbox_limit, on_room=self._waker.wake, patience=patience
        )
        self._subscriptions = Subscriptions()
        self._worker = Lane(f"{client_id}-worker")
        self._greeter = Lane(f"{client_id}-greeter")
        self._caller = Caller(self, self._worker, self._inbox)
        self._login = Login(client_id, endpoint, credential, will, keepalive, tls)
        self._connector = Connector(
            self._login,
            reconnect,
            reply_topic=self.reply_topic,
            on_reply=self._caller.on_reply,
            on_arrived=self._caller.release,
            on_lost=self._caller.on_lost,
            outbox=self._outbox,
            inbox=self._inbox,
            subscriptions=self._subscriptions,
            worker=self._worker,
            greeter=self._greeter,
            waker=self._waker,
        )

    @property
    def connected(self) -> bool:
        """True while the broker is there and the subscriptions are in force."""
        return self._connector.up

    @property
    def stopped(self) -> bool:
        """True once :meth:`stop` was called."""
        return self._connector.stopped

    @property
    def session(self) -> int:
        """Number of the current or last connection, from 1; 0 before the first."""
        return self._connector.number

    @property
    def endpoint(self) -> Endpoint | None:
        """Where the broker is that the link is, or last was, connected to; None before that."""
        return self._connector.endpoint

    @property
    def trouble(self) -> str:
        """Why the link is, or last was, not connected; one sentence."""
        return self._connector.trouble.message

    @property
    def dropped(self) -> int:
        """QoS 0 messages dropped because the handlers were stuck."""
        return self._inbox.dropped

    @property
    def late_replies(self) -> int:
        """Answers dropped because nobody waited for them any more."""
        return self._caller.late

    @property
    def queued(self) -> int:
        """Messages that wait to be sent."""
        return len(self._outbox)

    @property
    def will(self) -> Will | None:
        """What the broker publishes if the link dies; a change counts from the next connect."""
        return self._login.will

    @will.setter
    def will(self, will: Will | None) -> None:
        self._login.will = will

    @property
    def reconnect(self) -> Backoff:
        """How long to wait between attempts; a change counts from the next one."""
        return self._connector.backoff

    @reconnect.setter
    def reconnect(self, reconnect: Backoff) -> None:
        self._connector.backoff = reconnect

    def on_connect(self, hook: Callable[[], None]) -> Hook:
        """Run ``hook`` at every connect, after the link's subscriptions are in force again.

        Hooks run in the order of registration on the greeter thread. What they publish goes before everything
        that waits in the outbox. A hook registered while connected also runs now.

        Returns:
            What cancels it.
        """
        return self._connector.greet_with(hook)

    def on_disconnect(self, hook: Callable[[str], None]) -> Hook:
        """Run ``hook`` with the reason whenever an established connection ends (greeter thread), until cancelled."""
        return self._connector.disconnect_hooks.add(hook)

    def before_first_connect(self, gate: Callable[[Endpoint], None]) -> None:
        """Run ``gate`` on the network thread before the first connect.

        While it raises a ``CallboardError``, the link keeps out and tries again later; after ``Conflict`` or
        ``Unauthorized`` slowly.
        """
        self._connector.gate = gate

    def on_stop(self, hook: Callable[[], None]) -> Hook:
        """Run ``hook`` at the end of :meth:`stop`, on its thread; what still waits for something should give up."""
        return self._stop_hooks.add(hook)

    def start(self) -> None:
        """Connect in the background, and again after every loss, until :meth:`stop`."""
        self._connector.start()
        self._inbox.start()

    def wait_connected(self, timeout: float, *, retry: bool = True) -> None:
        """Wait until the link is connected and its hooks have run.

        Args:
            timeout: seconds.
            retry: False raises as soon as an attempt has failed, whatever the reason.

        Raises:
            Unauthorized: the broker refused the credential.
            Conflict: the broker, or the node that holds it, refused the client id.
            Unavailable: not connected in time; the message says why.

        After a refusal the link goes on trying, slowly: a corrected password heals it.
        """
        self._connector.wait(timeout, retry=retry)

    def stop(self, *, farewell: Sequence[Message] = (), timeout: float = 2.0) -> None:
        """Send what waits, then the farewell, then DISCONNECT; end all threads.

        Args:
            farewell: published and acknowledged before DISCONNECT.
            timeout: seconds for all of it; what is not out by then fails with ``Unavailable``.
        """
        deadline = monotonic() + timeout
        if self._connector.greeted and not self._worker.inside:
            self._connector.wait_drained(timeout / 2)
            self._say_farewell(farewell, deadline)
        self._connector.stop(max(0.1, deadline - monotonic()))
        stopped = Unavailable("the link was stopped")
        self._worker.post(partial(fail, self._outbox.clear(), stopped))
        self._worker.post(partial(self._caller.fail_all, stopped))
        for thread in (self._inbox, self._greeter, self._worker):
            thread.stop()
        for thread in (self._inbox, self._greeter, self._worker):
            thread.join(max(0.0, deadline - monotonic()))
        for hook in self._stop_hooks:
            hook()

    def _say_farewell(self, farewell: Sequence[Message], deadline: float) -> None:
        items = [Outgoing(m.topic, m.payload, m.qos, m.retain, futures=[Future()]) for m in farewell]
        for item in items:
            self._outbox.put(item, urgent=True)
        self._waker.wake()
        for item in items:
            try:
                item.futures[0].result(max(0.0, deadline - monotonic()))
            except (TimeoutError, CallboardError):
                _log.warning("%s: the farewell on %s did not get through", self.client_id, item.topic)

    def publish(
        self,
        topic: str,
        payload: bytes | Payload,
        *,
        qos: int = 0,
        retain: bool = False,
        expires_in: float | None = None,
    ) -> Future[None]:
        """Send a message, now or once connected.

        While there is no connection a retained message replaces an earlier one of its topic that waits.

        Args:
            topic: where to.
            payload: bytes, or a message to be encoded.
            qos: 0 or 1.
            retain: the broker keeps it.
            expires_in: seconds after which it is not sent any more (the future then fails with ``Expired``).

        Returns:
            A future that is done when the message is sent (QoS 0) or acknowledged by the broker (QoS 1).

        Raises:
            Overloaded: too many messages wait already.
            TooLarge: the payload is over the limit.
            BadRequest: the topic or QoS cannot be published to.
            Unavailable: the link was stopped.
        """
        future: Future[None] = Future()
        self._send(topic, payload, qos, retain, expires_in, [future])
        return future

    def post(
        self, topic: str, payload: bytes | Payload, *, qos: int = 0, expires_in: float | None = None
    ) -> None:
        """Send a message without wanting to know when it is out; cheaper than :meth:`publish`, which it is like."""
        self._send(topic, payload, qos, False, expires_in, [])

    def _send(
        self,
        topic: str,
        payload: bytes | Payload,
        qos: int,
        retain: bool,
        expires_in: float | None,
        futures: list[Future[None]],
    ) -> None:
        data = payload.encode() if isinstance(payload, Payload) else payload
        self._check(topic, data, qos)
        deadline = None if expires_in is None else monotonic() + expires_in
        self._outbox.put(Outgoing(topic, data, qos, retain, deadline, futures), urgent=self._greeter.inside)
        self._connector.push()

    def _check(self, topic: str, data: bytes, qos: int) -> None:
        if (topic, qos) not in _fine:
            _check_name(topic, qos)
        if len(data) > self._limit:
            raise TooLarge(f"{topic}: {len(data)} bytes are over the limit of {self._limit}")
        if self._connector.stopped:
            raise Unavailable("the link was stopped")

    def subscribe(self, topic_filter: str, handler: Handler, *, qos: int = 1) -> Subscription:
        """Receive messages, now and after every reconnect.

        Handlers run one after the other on the dispatcher thread, in the order of arrival; one that raises is
        logged. Each new subscription brings the retained messages again. Filters of one link that overlap may
        bring a message twice (MQTT 3.1.1, 3.3.5).

        Raises:
            BadRequest: it is not a filter.
        """
        levels = topic_filter.split("/")
        if "#" in levels[:-1] or any(len(one) > 1 and ("+" in one or "#" in one) for one in levels):
            raise BadRequest(f"filter {topic_filter!r}: '+' stands for one level, '#' for the last ones")
        _check_topic(topic_filter, qos)
        subscription = Subscription(topic_filter, handler, qos, self._unsubscribe)
        self._subscriptions.add(subscription)
        self._connector.request(topic_filter)
        return subscription

    def _unsubscribe(self, subscription: Subscription) -> None:
        if self._subscriptions.remove(subscription):
            self._connector.request(subscription.topic_filter)

    def call(
        self,
        address: Address,
        args: Mapping[str, Any],
        *,
        timeout: float,
        on_progress: Callable[[float], None] | None = None,
        on_ack: Callable[[], None] | None = None,
        call_id: str | None = None,
        fetch: bool = True,
        again: str | None = None,
    ) -> Future[JsonValue]:
        """Call a thing.

        Args:
            address: the thing; its leaf is taken to be ``command``.
            args: what the thing needs.
            timeout: seconds, more than 0 and at most a day; the call is valid for as long.
            on_progress: called with 0 to 1 on the worker thread.
            on_ack: called on the worker thread when the callee says that it works on it.
            call_id: by default a new ULID.
            fetch: have a result that is larger than a message fetched from where it is kept; otherwise the result
                is the reference to it.
            again: the call was sent before, by another way: instance of the node that had it; no other one may begin it.

        Returns:
            A future of the result; it fails with the ``CallboardError`` of the callee's code, with
            ``TimedOut``, or at once with ``Unavailable`` (not connected), ``Overloaded`` or ``BadRequest``.
            A reply that comes later is dropped.
        """
        return self._caller.call(address, args, timeout, on_progress, on_ack, call_id, fetch, again)

    def tell(self, address: Address, args: Mapping[str, Any], *, timeout: float) -> Future[None]:
        """Send a thing a call without wanting an answer.

        Args:
            address: the thing; its leaf is taken to be ``command``.
            args: what the thing needs.
            timeout: seconds after which the call must not begin any more.

        Returns:
            A future that is done when the broker has it.

        Raises:
            Unavailable: not connected.
            BadRequest: the arguments are no JSON.
            Overloaded: too many messages wait already.
        """
        return self._caller.tell(address, args, timeout)

    def ask_again(self, address: Address, call_id: str, instance: str) -> None:
        """Send a call again that still waits for its answer, which may have been lost with a connection.

        The callee does not run it twice: it repeats the answer if it has given one.

        Args:
            address: the thing that was called.
            call_id: the call's; nothing is sent if it waits no more.
            instance: of the callee's process that was called; another one refuses with ``unavailable``.
        """
        self._caller.ask_again(address, call_id, instance)

    def cancel(self, address: Address, call_id: str) -> None:
        """Ask the callee to interrupt a call; its final reply still comes."""
        self._caller.cancel(address, call_id)

    def round_trip(self, timeout: float) -> Future[None]:
        """Send a message to ourselves: everything that was on its way to us before has then been handled.

        Args:
            timeout: seconds after which the future fails with ``TimedOut``.
        """
        return self._caller.round_trip(timeout)

    def sibling(self, client_id: str) -> Link:
        """Return a new link, not yet started, to the same broker with the same credential."""
        login = self._login
        return Link(
            client_id=client_id,
            endpoint=login.endpoint,
            site=self.site,
            credential=login.credential,
            keepalive=login.keepalive,
            tls=login.tls,
        )

    def later(self, delay: float, work: Callable[[], object]) -> Timer:
        """Run ``work``, which must be short, on the worker thread after ``delay`` seconds."""
        return self._worker.later(delay, work)


#: Topics and QoS that were checked lately.
_fine: set[tuple[str, int]] = set()
_REMEMBERED = 10_000


def _check_name(topic: str, qos: int) -> None:
    if "+" in topic or "#" in topic:
        raise BadRequest(f"topic {topic!r}: '+' and '#' are only for subscriptions")
    _check_topic(topic, qos)
    if len(_fine) >= _REMEMBERED:
        _fine.clear()
    _fine.add((topic, qos))


def _check_topic(topic: str, qos: int) -> None:
    if qos not in {0, 1}:
        raise BadRequest(f"QoS {qos}: use 0 or 1")
    try:
        size = len(topic.encode())
    except UnicodeEncodeError:
        raise BadRequest(f"topic {topic!r} is not valid Unicode") from None
    if not 0 < size <= _LONGEST_TOPIC or "\0" in topic:
        raise BadRequest(f"topic of {size} bytes: use 1 to {_LONGEST_TOPIC}, none of them NUL")
