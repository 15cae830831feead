"""Processes that run workers' functions: a cancellation ends its own call's process and nobody else's."""

from __future__ import annotations

import threading

import pytest

from callboard_core.errors import Failed
from callboard_core.jobs import Cancellation
from callboard_nodes.children import Children, is_child
from support import crew


def test_a_cancellation_that_comes_late_kills_nothing() -> None:
    children = Children(crew.pid, 1)
    try:
        late = Cancellation()
        pid = children.call({}, late)
        late.set()
        assert children.call({}, Cancellation()) == pid
    finally:
        children.close()


def test_a_cancellation_ends_the_call_that_runs() -> None:
    children = Children(crew.nap, 1)
    try:
        cancelled = Cancellation()
        threading.Timer(0.1, cancelled.set).start()
        with pytest.raises(Failed, match="ended while it worked"):
            children.call({"seconds": 30}, cancelled)
        assert isinstance(children.call({"seconds": 0}, Cancellation()), int)
    finally:
        children.close()


def test_a_child_knows_that_it_is_one() -> None:
    children = Children(is_child, 1)
    try:
        assert children.call({}, Cancellation())
        assert not is_child()
    finally:
        children.close()
