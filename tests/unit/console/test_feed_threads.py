"""The feed's own threads go on after a failure."""

import pytest

from callboard_console.web import feed as module
from callboard_console.web.feed import Feed
from callboard_core.link import Credential, Endpoint


@pytest.fixture
def feed():
    made = Feed(
        site="callboard",
        endpoint=Endpoint("127.0.0.1", 9),
        credential=Credential("viewer", "x"),
        http_url="http://127.0.0.1:9",
    )
    yield made
    made._link.stop()


def test_snapshots_go_on_after_one_that_failed(feed, monkeypatch, caplog):
    made = []

    def snapshot(_now):
        made.append(1)
        if len(made) == 1:
            raise KeyError("value")
        feed._stopping.set()
        return "new"

    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 0)
    monkeypatch.setattr(feed._model, "snapshot", snapshot)
    feed._tick()
    assert feed.snapshot() == "new"
    assert "drawing up what the console shows failed" in caplog.text


def test_the_registry_is_asked_again_after_an_answer_that_is_none(feed, monkeypatch, caplog):
    asked = []

    def nodes():
        asked.append(1)
        if len(asked) == 1:
            raise KeyError("items")
        feed._stopping.set()
        return []

    monkeypatch.setattr(module, "REGISTRY_EVERY", 0)
    monkeypatch.setattr(feed._api, "nodes", nodes)
    feed._ask_registry()
    assert len(asked) == 2
    assert "reading the board's registry failed" in caplog.text
