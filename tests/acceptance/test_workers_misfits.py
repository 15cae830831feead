"""Calls that do not fit: answers too large or not to be written, schemas that change, crowds, vanished callers, wrong clocks."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from callboard import Agent, CallboardError, Client, Node, method
from callboard_core.calls.artifacts import reference
from callboard_core.settings import Settings
from callboard_core.topics import Address, Kind, Leaf
from support.faults import Caller, Site, Worker, site, until
from support.netns import lan
from support.root import needs_root
from support.timing import Stopwatch
from support.up import Up, running_board

#: A site is five programs that have to start, more than once.
pytestmark = pytest.mark.timeout(300)

MakeNode = Callable[..., Node]

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_board(tmp_path_factory.mktemp("board"), node=False) as started:
        yield started


@pytest.fixture
def board(up: Up) -> Iterator[Client]:
    with Client(settings=Settings(state=up.state)) as client:
        yield client


@pytest.fixture
def make_node(up: Up) -> Iterator[MakeNode]:
    with contextlib.ExitStack() as nodes:

        def make(*offered: Any) -> Node:
            name = f"misfit-{next(_numbers)}"
            node = Node(name, settings=Settings(state=up.state, node={"id": name}))
            node.add(*offered)
            return nodes.enter_context(node)

        yield make


# --- answers


class Odd(Agent):
    """Answers what is hard to send."""

    @method
    def much(self, kind: str) -> Any:
        return {"bytes": b"\x01" * 5_000_000, "json": ["x" * 50] * 100_000}[kind]

    @method
    def wrong(self, kind: str) -> Any:
        return {
            "nan": float("nan"),
            "deep": {"a": [float("inf")]},
            "object": object(),
        }[kind]


@pytest.mark.parametrize(("kind", "size"), [("bytes", 5_000_000), ("json", 100_000)])
def test_an_answer_of_five_megabytes_arrives(
    make_node: MakeNode, board: Client, kind: str, size: int
) -> None:
    make_node(Odd("odd"))
    odd = board.proxy("odd")
    odd.wait_ready(10)
    answer = odd.much.with_(timeout=20)(kind=kind)
    assert len(answer) == size
    assert set(answer) == ({1} if kind == "bytes" else {"x" * 50})


def test_a_plain_client_is_told_where_a_large_answer_is(make_node: MakeNode, board: Client) -> None:
    node = make_node(Odd("odd"))
    board.proxy("odd").wait_ready(10)
    address = Address("callboard", node.id, Leaf.COMMAND, Kind.WORKER, "odd-much")
    board.link.artifacts = None  # such a client knows nothing of them
    ref = reference(board.link.call(address, {"kind": "bytes"}, timeout=20).result())
    assert ref is not None
    assert (ref.size, ref.type) == (5_000_000, "application/octet-stream")


@pytest.mark.parametrize(("kind", "said"), [("nan", ""), ("deep", ""), ("object", "object")])
def test_an_answer_that_cannot_be_written_is_an_error_that_says_so(
    make_node: MakeNode, board: Client, kind: str, said: str
) -> None:
    make_node(Odd("odd"))
    odd = board.proxy("odd")
    odd.wait_ready(10)
    begun = Stopwatch()
    with pytest.raises(CallboardError, match="the result can") as caught:
        odd.wrong.with_(timeout=10)(kind=kind)
    assert begun.within(2), begun
    assert caught.value.code == "failed"
    assert said in caught.value.message
    with pytest.raises(CallboardError, match="KeyError"):
        odd.wrong(kind="it goes on")


# --- a schema that changes


class Scale(Agent):
    @method
    def weigh(self, grams: int) -> str:
        return f"{grams} g"


class NewScale(Agent):
    @method
    def weigh(self, pounds: float, tare: float = 0.0) -> str:
        return f"{pounds - tare:g} lb"


def test_a_proxy_follows_a_schema_that_changes(make_node: MakeNode, board: Client) -> None:
    old = Scale("scale")
    node = make_node(old)
    scale = board.proxy("scale")
    scale.wait_ready(10)
    weigh = scale.weigh  # held all the time
    assert weigh(grams=5) == "5 g"
    with pytest.raises(CallboardError, match="pounds: unknown"):
        weigh(pounds=1.5)
    node.remove(old)
    node.add(NewScale("scale"))
    until(
        lambda: weigh.schema is not None and "pounds" in weigh.schema.parameters["properties"],
        5,
        "the new card",
    )
    assert weigh(pounds=2.5, tare=0.5) == "2 lb"
    with pytest.raises(CallboardError, match=r"missing|unknown"):
        weigh(grams=5)


def test_who_has_not_seen_the_new_schema_is_refused_by_the_worker_by_name(
    make_node: MakeNode, board: Client
) -> None:
    node = make_node(NewScale("scale"))
    board.proxy("scale").wait_ready(10)
    address = Address("callboard", node.id, Leaf.COMMAND, Kind.WORKER, "scale-weigh")
    with pytest.raises(CallboardError, match=r"pounds|grams") as caught:
        board.link.call(address, {"grams": 5}, timeout=5).result()
    assert caught.value.code == "bad_request"


# --- a thousand members

CROWD = """
import sys
from callboard import Node
from callboard_core.settings import Settings

name, state = sys.argv[1:]
node = Node(name, settings=Settings(state=state, node={"id": name}))
for number in range(500):
    node.worker(service=f"crowd:{name}-{number}", name=f"m-{number}", idempotent=True)(lambda: name)
with node:
    print("up", flush=True)
    sys.stdin.read()
"""


def test_a_thousand_members_are_called_and_half_of_them_die(up: Up, board: Client) -> None:
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, name, str(up.state)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("crowd-a", "crowd-b")
    ]
    try:
        for process in crowd:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
        pool = board.pool("crowd:*")
        pool.wait_ready(30, members=1000)
        futures = [pool.submit(timeout=20) for _ in range(2000)]
        crowd[0].kill()
        assert {future.result(30) for future in futures} <= {"crowd-a", "crowd-b"}
        until(lambda: len(pool.members()) == 500, 5, "the dead have left")
        assert {pool.call(timeout=5) for _ in range(20)} == {"crowd-b"}
    finally:
        for process in crowd:
            process.kill()
            process.communicate()


# --- vanished callers and wrong clocks


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site whose clocks are as many days off as the test says: the worker's and the caller's."""
    worker, caller = getattr(request, "param", (0, 0))
    with pytest.MonkeyPatch.context() as patch, lan() as network:
        patch.setattr(Worker, "node_settings", {"days": worker})
        patch.setattr(Caller, "settings", {"days": caller, "client_id": "the-caller"})
        with site(lambda: contextlib.nullcontext(network), tmp_path) as started:
            yield started


@needs_root
def test_a_caller_that_vanishes_leaves_nothing_behind(place: Site) -> None:
    for service in ("once", "sleep"):
        place.caller.call(f"{service}:*", 20, seconds=0.5, tag="orphan")
    until(lambda: len(place.begun()) == 2, 10, "the calls are under way")
    place.caller.kill()
    place.caller.start()
    place.caller.wait_up()
    for number in range(4):  # the workers are free again
        answer = place.caller.call("once:*", 5, seconds=0, tag=f"after-{number}").result(10)
        assert answer["outcome"] == "done"
    assert place.begun()["once orphan"] == 1
    assert retained(place, "callboard/the-caller/#") == {}


def retained(place: Site, topics: str) -> dict[str, str]:
    """What the broker keeps under some topics."""
    command = ["mosquitto_sub", "-h", place.broker.address, "-t", topics, "--retained-only", "-W", "1", "-v"]
    namespace = place.network.namespace("caller")
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, *command], capture_output=True, text=True, check=False, timeout=20
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


@needs_root
@pytest.mark.parametrize("place", [(1, -1), (-1, 1)], ids=["ahead", "behind"], indirect=True)
def test_clocks_that_are_a_day_off_do_not_matter(place: Site) -> None:
    calls = [place.caller.call("once:*", 5, seconds=0.2, tag=f"t{number}") for number in range(4)]
    outcomes = [call.result(10) for call in calls]
    assert [one["outcome"] for one in outcomes] == ["done"] * 4
    watch = Stopwatch()
    late = place.caller.call("once:*", 1.0, seconds=3, tag="late").result(10)
    assert late["outcome"] == "timeout"
    assert watch.within(2), watch
    for road in ("http", "plain"):  # the board's clock is right
        answer = place.call_by(road, "sleep:*", 5, seconds=0, tag=road).result(10)
        assert answer["outcome"] == "done", json.dumps(answer)
    busy = [place.caller.call("sleep:*", 10, seconds=1, tag=f"s{number}") for number in (1, 2)]
    until(lambda: all(place.begun()[f"sleep s{number}"] for number in (1, 2)), 5, "both work")
    place.left.kill()
    assert [call.result(10)["outcome"] for call in busy] == ["done", "done"]
    until(lambda: place.caller.members("once:*") == {"right": "ready"}, 10, "the dead have left")
    place.left.start()
    place.left.wait_up()
    until(lambda: len(place.caller.members("once:*")) == 2, 20, "it is back")
