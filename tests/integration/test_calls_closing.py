"""What is left of pools, proxies and directories when they are closed: nothing that others need, and no hooks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard import Directory, Link, Node
from callboard_core.errors import Unavailable
from support.links import MakeLink, links
from support.mosquitto import Mosquitto, mosquitto
from support.nodes import node_settings
from support.timing import Stopwatch

__all__ = ["links", "mosquitto"]


@pytest.fixture
def caller(mosquitto: Mosquitto, links: MakeLink) -> Link:
    return links("caller", mosquitto.endpoint)


@pytest.fixture
def directory(caller: Link) -> Iterator[Directory]:
    found = Directory(caller)
    found.start()
    found.wait_complete(10)
    return found


@pytest.fixture
def camera(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Node]:
    node = Node("alpha", settings=node_settings(tmp_path / "alpha", mosquitto.endpoint))
    node.worker(service="camera:shoot")(lambda: "click")
    node.start()
    yield node
    node.stop()


def hooks(link: Link) -> tuple[int, int, int]:
    connector = link._connector
    return (
        len(connector.connect_hooks),
        len(link._stop_hooks),
        len(link._subscriptions.wanted()),
    )


def test_a_proxy_that_is_closed_leaves_its_siblings_alone(camera: Node, directory: Directory) -> None:
    one, other = directory.proxy("camera"), directory.proxy("camera")
    one.wait_ready(5)
    other.wait_ready(5)
    assert one.shoot() == other.shoot() == "click"
    one.close()
    assert other.shoot() == "click"
    pool = directory.pool("camera:shoot")
    other.close()
    assert pool.call() == "click"
    assert one.shoot() == "click", "it begins anew"


def test_asking_a_proxy_for_a_name_makes_no_pool(camera: Node, directory: Directory) -> None:
    proxy = directory.proxy("camera")
    for name in ("shoot", "shout", "_repr_html_", "shape"):
        getattr(proxy, name, None)
    assert not directory._pools
    proxy.wait_ready(5)
    proxy.shoot()
    assert set(map(str, directory._pools)) >= {"camera:shoot"}
    proxy.close()
    assert not directory._pools


def test_closed_pools_and_directories_leave_nothing_on_the_link(caller: Link) -> None:
    left = []
    for _ in range(3):
        directory = Directory(caller)
        directory.start()
        directory.pool("a:*", wait=1.0).close()
        directory.pool("b:*")
        directory.stop()
        left.append(hooks(caller))
    assert left == [(0, 1, 0)] * 3, "but for the link's own lanes"


@pytest.mark.parametrize("end", ["pool", "link"])
def test_waiting_for_members_ends_when_the_pool_or_its_link_is_closed(
    caller: Link, directory: Directory, end: str
) -> None:
    pool = directory.pool("nobody")
    threading.Timer(0.1, pool.close if end == "pool" else caller.stop).start()
    begun = Stopwatch()
    with pytest.raises(Unavailable, match="closed"):
        pool.wait_ready(30)
    assert begun.within(5), begun
    with pytest.raises(Unavailable, match="closed"):
        pool.wait_ready(30)
    if end == "link":
        with pytest.raises(Unavailable, match="closed"):
            directory.pool("another").wait_ready(30)
