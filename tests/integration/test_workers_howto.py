"""docs/howto/workers.md does what it says: its Python, from top to bottom, against a real broker."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callboard import Node
from callboard_core.settings import Settings
from support.mosquitto import Mosquitto, mosquitto
from support.up import CALLBOARD, running_board

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


def test_the_pages_commands_call_a_worker(tmp_path: Path) -> None:
    commands = re.findall(r"^\$ ((?:.*\\\n)*.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    calls = [
        command for command in commands if command.startswith(("callboard call", "curl", "mosquitto_rr"))
    ]
    assert len(calls) == 5
    with running_board(tmp_path, node=False) as up:
        node = Node("render-1", settings=Settings(state=up.state, node={"id": "render-1"}))
        node.worker(service="texture")(lambda x, y: [[0.5] * int(x)] * int(y))
        with node:
            for command in calls:
                line = command.replace("PASSWORD", up.password("operator"))
                line = line.replace("http://127.0.0.1:8470", up.runtime.http.url)
                line = line.replace("mosquitto_rr", f"mosquitto_rr -p {up.runtime.mqtt.port}")
                line = re.sub("^callboard", " ".join(CALLBOARD), line)
                env = up.env | {"CALLBOARD_STATE": str(up.state)}
                done = subprocess.run(
                    ["sh", "-c", line], capture_output=True, text=True, env=env, timeout=60, check=False
                )
                assert done.returncode == 0, (line, done.stderr)
                answer = json.loads(done.stdout)
                assert [[0.5, 0.5], [0.5, 0.5]] in (answer, result_of(answer)), command


def result_of(answer: Any) -> Any:
    """The result in what was printed: alone, with what belongs to it, or as the only one of several."""
    while isinstance(answer, list) and len(answer) == 1:
        [answer] = answer
    return answer["result"] if isinstance(answer, dict) else answer
