"""docs/howto/workers.md does what it says: its Python, from top to bottom, against a real broker."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.mosquitto import Mosquitto, mosquitto

__all__ = ["mosquitto"]

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "workers.md"


def test_the_page_runs_from_top_to_bottom(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALLBOARD_STATE", str(tmp_path))
    monkeypatch.setenv("CALLBOARD_NODE_BOARD", str(mosquitto.endpoint))
    names: dict[str, Any] = {}
    done: set[Callable[..., Any]] = set()
    try:
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
            exec(
                compile(block.replace("node.run()", "node.start()"), str(PAGE), "exec"), names
            )  # the page's own
            for coroutine in {one for one in names.values() if inspect.iscoroutinefunction(one)} - done:
                done.add(coroutine)
                asyncio.run(coroutine())
    finally:
        for name in ("board", "node"):
            if name in names:
                names[name].stop()
    assert names["table"] == [[0.5, 0.5], [0.5, 0.5]]
    assert [answer.error for answer in names["answers"]] == [None]
    printed = capsys.readouterr().out
    assert "bad_request x: expected a whole number, got 'wide' None" in printed
    assert re.search(r"^0\.5 \d \['exposure', 'pictures', 'take-picture', 'timers'\]$", printed, re.MULTILINE)
