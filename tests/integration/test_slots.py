"""Slots on a real broker: what they announce, do, tell and survive. The board is a double that writes things down."""

from __future__ import annotations

import asyncio

import pytest

from callboard_core.errors import NotFound, Overloaded
from support.farm import Farm, assignment, farm_node
from support.mosquitto import mosquitto
from support.waiting import wait_until

__all__ = ["mosquitto"]


@pytest.fixture
def farm(mosquitto):
    found = Farm(mosquitto.endpoint)
    yield found
    found.close()


async def test_a_slot_does_its_frames_and_tells_of_each_once(mosquitto, farm, tmp_path):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="simulated=1") as node:
        await node.state("simulated", "idle")
        await asyncio.to_thread(wait_until, lambda: node.store.reached == 1)  # before there is work
        given = assignment(
            "simulated",
            [1, 2, 3],
            args={"image": True},
            output={"format": "png", "pattern": "f-##.png", "width": 32, "height": 16},
        )
        assert (await node.assign("simulated", given))["accepted"]
        end = await asyncio.to_thread(farm.end, given.attempt)
        assert end.what == "done", end
        assert farm.what(given.attempt) == ["started", "frame", "frame", "frame", "done"]
        frames = farm.frames(given.attempt)
        assert [(one.frame, one.name, one.size) for one in frames] == [
            (1, "f-01.png", [32, 16]),
            (2, "f-02.png", [32, 16]),
            (3, "f-03.png", [32, 16]),
        ]
        assert all(node.store.path(one.artifact).exists() and one.thumbnail for one in frames)
        await node.state("simulated", "idle")
        attempts = tmp_path / "render-1/farm/attempts"
        await asyncio.to_thread(wait_until, lambda: not list(attempts.iterdir()))


async def test_the_lines_of_what_runs_are_told_on_demand(mosquitto, farm, tmp_path):
    script = 'echo one; echo two; while [ ! -e "$2" ]; do sleep 0.02; done; echo made > $1'
    gate = tmp_path / "go on"
    commands = [{"name": "talk", "argv": ["/bin/sh", "-c", script, "sh", "{output}", str(gate)]}]
    async with farm_node(mosquitto.endpoint, tmp_path, slots="command=1", commands=commands) as node:
        with pytest.raises(NotFound, match="works on nothing now"):
            await node.order("command", "log")
        given = assignment("command", args={"name": "talk"})
        await node.assign("command", given)
        async with asyncio.timeout(5):
            while "two" not in (told := await node.order("command", "log"))["log"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # what is asked for has no event
        assert (told["offset"], told["size"]) == (len(told["log"].encode()),) * 2
        rest = await node.order("command", "log", attempt=given.attempt, offset=told["log"].index("two"))
        assert rest["log"].startswith("two")
        with pytest.raises(NotFound, match="does not work on"):
            await node.order("command", "log", attempt="another")
        gate.touch()
        assert (await asyncio.to_thread(farm.end, given.attempt)).what == "done"


async def test_the_next_one_begins_at_once_and_a_third_is_refused(mosquitto, farm, tmp_path):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="simulated=1") as node:
        await node.state("simulated", "idle")
        first, second, third = (assignment("simulated", [1], args={"seconds": 0.3}) for _ in range(3))
        await node.assign("simulated", first)
        await node.assign("simulated", second)
        with pytest.raises(Overloaded):
            await node.assign("simulated", third)
        ended = (await asyncio.to_thread(farm.end, first.attempt)).t
        began = (await asyncio.to_thread(farm.wait, second.attempt, "started")).t
        assert began - ended < 0.05
        assert (await asyncio.to_thread(farm.end, second.attempt)).what == "done"
