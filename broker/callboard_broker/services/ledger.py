"""Which commands were sent, by whom, and what came of them, from the messages alone; and who was not let in. Pure.

Commands and answers are kept as they come, which is cheap, and looked into later. What is alike is counted.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic_core import from_json

from callboard_broker.access.rules import is_command
from callboard_core.calls.codec import is_msgpack
from callboard_core.topics import Leaf

__all__ = ["Entry", "Ledger", "concerns"]

#: Messages that may wait to be looked into, and are looked into at a time; commands whose answers are waited for;
#: entries that may wait to be taken.
_SEEN, _AT_ONCE, _OPEN, _READY = 20_000, 5_000, 20_000, 10_000
#: Seconds an answer is waited for: till the call expires, but no longer than this; and where it doesn't say so.
_LONGEST, _USUAL = 600.0, 60.0
#: Bytes of a message that are kept, of a larger one from its beginning: what is looked for comes first.
_SAMPLE = 4096
_FIELD = re.compile(rb'"(id|reply_to|code)"\s*:\s*"((?:[^"\\]|\\.){1,200})"')
_NUMBER = re.compile(rb'"(expires)"\s*:\s*([0-9.]{1,20})')
_OK = re.compile(rb'"(ok)"\s*:\s*(true|false)')
_KEYS = frozenset({"id", "reply_to", "expires", "ok", "error", "code"})


class Entry(NamedTuple):
    """A command and what came of it; the last one of ``times`` alike.

    Attributes:
        t: when it was sent, Unix seconds.
        user: who sent it; empty if only the message says something about that.
        client: the client id it was sent by, or that is to be answered.
        address: where that client is; empty if unknown.
        topic: where to; empty for what is no command.
        result: ``ok``, an error code, ``timeout``, ``sent`` where no answer was asked for, ``left out`` for those that
            nobody had time to look into.
        what: ``command``, or ``login`` for one that was refused.
    """

    t: float
    user: str
    client: str
    address: str
    topic: str
    result: str
    detail: str = ""
    times: int = 1
    what: str = "command"


class _Seen(NamedTuple):
    t: float
    user: str
    client: str
    address: str
    topic: str
    payload: bytes


class _Open(NamedTuple):
    command: _Seen
    until: float


def concerns(site: str, topic: str) -> bool:
    """Tell whether a topic carries commands or answers."""
    levels = topic.split("/")
    return is_command(site, topic) or (len(levels) == 3 and levels[0] == site and levels[2] == Leaf.REPLY)  # noqa: PLR2004


class Ledger:
    """Not safe from several threads at a time.

    Args:
        site: first level of topics.
        trusting: whether an answer counts whoever it comes from, because that is not known.
    """

    def __init__(self, site: str, *, trusting: bool = False) -> None:
        self._site = site
        self._trusting = trusting
        self._seen: deque[_Seen] = deque()
        self._open: dict[tuple[str, str], _Open] = {}
        self._ready: dict[tuple[str, ...], Entry] = {}
        self._left_out = 0

    def saw(self, t: float, user: str, client: str, address: str, topic: str, payload: bytes) -> None:
        """Note a message on a topic that :func:`concerns` us."""
        if len(self._seen) < _SEEN:
            self._seen.append(_Seen(t, user, client, address, topic, bytes(payload[:_SAMPLE])))
        else:
            self._left_out += 1

    def refused(self, t: float, user: str, client: str, address: str, topic: str) -> None:
        """Note a command that access rules have refused."""
        self._tell(Entry(t, user, client, address, topic, "forbidden"))

    def kept_out(self, t: float, user: str, client: str, address: str, result: str) -> None:
        """Note a log-in that was refused."""
        self._tell(Entry(t, user, client, address, "", result, what="login"))

    def settle(self, now: float) -> bool:
        """Look into what waits; returns whether there is something to take."""
        for _ in range(min(_AT_ONCE, len(self._seen))):
            self._look(self._seen.popleft())
        self._give_up(now)
        if self._left_out:
            self._tell(Entry(now, "", "", "", "", "left out", "too many at a time", self._left_out))
            self._left_out = 0
        return bool(self._ready)

    def take(self, most: int) -> list[Entry]:
        """Return up to ``most`` entries, each once."""
        keys = list(self._ready)[:most]
        return [self._ready.pop(key) for key in keys]

    def _look(self, seen: _Seen) -> None:
        found = _fields(seen.payload)
        if is_command(self._site, seen.topic):
            self._command(seen, found)
        else:
            self._answer(seen, found)

    def _command(self, seen: _Seen, found: Mapping[str, Any]) -> None:
        number, reply_to = found.get("id"), found.get("reply_to")
        if not isinstance(reply_to, str) or not isinstance(number, str):
            self._end(seen, "sent")
            return
        if self._trusting:
            seen = seen._replace(client=reply_to.rsplit("/", 2)[-2] if "/" in reply_to else reply_to)
        expires = found.get("expires")
        usual = seen.t + _USUAL
        until = min(float(expires), seen.t + _LONGEST) if isinstance(expires, int | float) else usual
        if len(self._open) >= _OPEN:
            self._end(self._open.pop(next(iter(self._open))).command, "sent", "its answer was not waited for")
        # The same id again is the same call: QoS 1 delivers twice at times, and callers that hear nothing repeat.
        self._open.setdefault((reply_to, number), _Open(seen, until))

    def _answer(self, seen: _Seen, found: Mapping[str, Any]) -> None:
        number, ok = found.get("id"), found.get("ok")
        if not isinstance(number, str) or not isinstance(ok, bool):
            return  # an acknowledgement, or progress
        key = (seen.topic, number)
        waiting = self._open.get(key)
        if waiting is None or not (self._trusting or _is_callee(waiting.command.topic, seen.client)):
            return
        del self._open[key]
        code = found.get("code")
        self._end(waiting.command, "ok" if ok else code if isinstance(code, str) else "failed")

    def _give_up(self, now: float) -> None:
        for key in [key for key, one in self._open.items() if one.until < now]:
            self._end(self._open.pop(key).command, "timeout", "no answer came")

    def _end(self, seen: _Seen, result: str, detail: str = "") -> None:
        self._tell(Entry(seen.t, seen.user, seen.client, seen.address, seen.topic, result, detail))

    def _tell(self, entry: Entry) -> None:
        key = (entry.what, entry.user, entry.client, entry.address, entry.topic, entry.result)
        known = self._ready.get(key)
        if known is not None:
            self._ready[key] = entry._replace(times=known.times + entry.times)
        elif len(self._ready) < _READY:
            self._ready[key] = entry
        else:
            self._left_out += entry.times


def _is_callee(topic: str, client: str) -> bool:
    return topic.split("/", 2)[1] == client


def _fields(payload: bytes) -> Mapping[str, Any]:
    """Return id, reply_to, expires, ok and the error's code, as far as they can be found."""
    if is_msgpack(payload):
        return _flat(_packed(payload))
    if len(payload) < _SAMPLE:
        try:
            found = from_json(payload)
        except ValueError:
            return {}
        return _flat(found) if isinstance(found, dict) else {}
    return _sampled(payload)


def _flat(found: Mapping[str, Any]) -> Mapping[str, Any]:
    error = found.get("error")
    return {**found, "code": error.get("code")} if isinstance(error, Mapping) else found


def _sampled(payload: bytes) -> Mapping[str, Any]:
    """The first of each in the beginning of a long message."""
    found: dict[str, Any] = {}
    for name, text in _FIELD.findall(payload):
        found.setdefault(name.decode(), text.decode(errors="replace"))
    for name, text in _NUMBER.findall(payload):
        found.setdefault(name.decode(), float(text) if text.count(b".") < 2 else 0.0)  # noqa: PLR2004 - one point
    for name, text in _OK.findall(payload):
        found.setdefault(name.decode(), text == b"true")
    return found


def _packed(payload: bytes) -> Mapping[str, Any]:
    """What is found before the end of a map in MessagePack, which may be cut off."""
    import msgpack  # noqa: PLC0415 - only messages with bytes need it

    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=_SAMPLE)
    found: dict[str, Any] = {}
    try:
        unpacker.feed(payload)
        for _ in range(unpacker.read_map_header()):
            key = unpacker.unpack()
            if isinstance(key, str) and key in _KEYS:
                found[key] = unpacker.unpack()
            else:
                unpacker.skip()
    except (msgpack.UnpackException, ValueError):
        return found
    return found
