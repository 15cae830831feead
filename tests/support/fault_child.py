"""A caller in a process of its own, for tests to kill, stop and cut off.

Arguments: ``mqtt://host:port``, JSON of settings. Takes one JSON object a line on standard input and answers each with one:
``{"id", "do": "call", "service", "args", "timeout", "road": "pool" | "http" | "plain", …}`` →
``{"id", "outcome", "result", "took"}``,
``{"id", "do": "members", "service"}`` → ``{"id", "result"}``.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any

settings = json.loads(sys.argv[2])
if days := settings.get("days"):
    honest = time.time
    time.time = lambda: honest() + days * 86400

import callboard  # noqa: E402 - the clock must be wrong before
from callboard_core.topics import Address, Kind, Leaf  # noqa: E402 - likewise

board = callboard.connect(sys.argv[1], client_id=settings.get("client_id"))
board.link.direct = settings.get("direct", True)
board.start(timeout=20)
_writing = threading.Lock()


def say(**answer: Any) -> None:
    with _writing:
        print(json.dumps(answer), flush=True)


def over_http(wanted: dict[str, Any]) -> Any:
    """Call through the board's HTTP API."""
    url = f"{wanted['url']}/api/v1/services/{wanted['service']}?timeout={wanted['timeout']}"
    body = json.dumps(wanted["args"]).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    secret = base64.b64encode(wanted["login"].encode()).decode()
    request.add_header("Authorization", f"Basic {secret}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=wanted["timeout"] + 1) as answer:
            return json.load(answer)["result"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{error.code}: {error.read().decode(errors='replace')}") from None


def through_the_board(wanted: dict[str, Any]) -> Any:
    """Call through the board's worker, as a plain MQTT client does."""
    address = Address("callboard", "board", Leaf.COMMAND, Kind.WORKER, "call")
    args = {key: wanted[key] for key in ("service", "args", "timeout")}
    return board.link.call(address, args, timeout=wanted["timeout"]).result()


def call(wanted: dict[str, Any]) -> Any:
    if wanted.get("road") == "http":
        return over_http(wanted)
    if wanted.get("road") == "plain":
        return through_the_board(wanted)
    return board.pool(wanted["service"]).call(wanted["args"], timeout=wanted["timeout"])


def members(service: str) -> dict[str, str]:
    """How the members stand; ``silent`` if their node does not answer a ping through the broker."""
    found = {one.node: one.standing for one in board.pool(service).members()}
    pings = {node: ping(node) for node in found}
    return {node: found[node] if pings[node].exception() is None else "silent" for node in found}


def ping(node: str) -> Any:
    return board.link.call(Address("callboard", node, Leaf.COMMAND, Kind.ACTION, "ping"), {}, timeout=1.0)


def obey(wanted: dict[str, Any]) -> None:
    begun = time.monotonic()
    try:
        result = members(wanted["service"]) if wanted["do"] == "members" else call(wanted)
        outcome = "done"
    except Exception as error:
        outcome, result = getattr(error, "code", type(error).__name__), str(error)
    say(id=wanted["id"], outcome=outcome, result=result, took=time.monotonic() - begun)


say(id=0)
for line in sys.stdin:
    threading.Thread(target=obey, args=(json.loads(line),), daemon=True).start()
board.stop()
