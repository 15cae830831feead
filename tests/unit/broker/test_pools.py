"""The board's pools: made when called, bounded, and closed when nobody uses them."""

from __future__ import annotations

import pytest

from callboard_broker.services import pools as module
from callboard_broker.services.pools import Pools
from callboard_core.directory import Directory
from callboard_core.errors import BadRequest, NotFound, Overloaded
from callboard_core.link import Endpoint, Link


@pytest.fixture
def pools() -> Pools:
    link = Link(client_id="board", endpoint=Endpoint("127.0.0.1", 1))  # never started
    return Pools(Directory(link), link)


def test_a_pool_that_nobody_uses_is_closed(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = pools._pool("a")
    assert pools._pool("a") is kept
    pools.tidy()
    assert not kept.pool.closed
    monkeypatch.setattr(module, "IDLE", -1.0)
    pools.tidy()
    assert kept.pool.closed
    assert pools._pool("a") is not kept
    pools.stop()
    assert not pools._kept


def test_the_number_of_pools_is_bounded(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    for service in ("a", "b", "a"):
        pools._pool(service)
    with pytest.raises(Overloaded):
        pools._pool("c")
    pools.stop()


@pytest.mark.parametrize(
    ("service", "error"), [("call", NotFound), ("No Name", BadRequest), ("", BadRequest)]
)
def test_what_is_no_service_makes_no_pool(pools: Pools, service: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        pools._pool(service)
    assert not pools._kept


def test_who_calls_is_counted_once_and_within_bounds(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALLERS", 2)
    for caller in ("a", "b", "a", "c", "d"):
        pools._used("s", caller)
    assert pools.figures()["s"]["callers"] == {"a": 2, "b": 1, "*": 2}
    assert pools.figures() == {}
    pools.stop()
