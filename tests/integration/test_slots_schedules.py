"""Schedules from the settings file to the state of the slot: hours, people at the machine, a busy processor."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from callboard_nodes.slots import bank
from support.farm import Farm, assignment, farm_node
from support.mosquitto import mosquitto

__all__ = ["mosquitto"]


@pytest.fixture
def farm(mosquitto):
    found = Farm(mosquitto.endpoint)
    yield found
    found.close()


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Look at the schedules all the time."""
    monkeypatch.setattr(bank, "_LOOK", 0.05)


@pytest.fixture
def people(tmp_path, monkeypatch):
    """Play logind; returns what says whether somebody is at the machine."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

    def say(*, here):
        new = programs / "new"
        new.write_text(f"#!/bin/sh\necho IdleHint={'no' if here else 'yes'}\necho IdleSinceHint=1000000\n")
        new.chmod(0o755)
        new.rename(programs / "loginctl")

    monkeypatch.setattr("callboard_nodes.slots.schedule._terminals", lambda dev: None)
    say(here=False)
    return say


def table(**more):
    return [{"engine": "simulated", **more}]


def hours(begin, end):
    """A window from so many hours before or after now to so many."""
    now = datetime.now().astimezone()
    return [f"{now + timedelta(hours=begin):%H:%M}-{now + timedelta(hours=end):%H:%M}"]


async def test_a_slot_sleeps_outside_its_hours_and_says_so(mosquitto, farm, tmp_path):
    away, now = hours(6, 8), hours(-6, 6)
    async with farm_node(mosquitto.endpoint, tmp_path, tables=table(name="night", hours=away)) as node:
        state = await node.state("night", "asleep")
        assert state["data"]["reason"] == f"works {away[0]} only"
        await node.order("night", "wake")
        assert await node.state("night", "idle")
    async with farm_node(mosquitto.endpoint, tmp_path, node="render-2", tables=table(hours=now)) as node:
        assert await node.state("simulated", "idle")


async def test_while_somebody_uses_the_machine_the_renderer_is_stopped(mosquitto, farm, tmp_path, people):
    async with farm_node(mosquitto.endpoint, tmp_path, tables=table(idle_minutes=15)) as node:
        await node.state("simulated", "idle")
        given = assignment("simulated", [1, 2], args={"seconds": 0.5})
        await node.assign("simulated", given)
        await asyncio.to_thread(farm.wait, given.attempt, "started")
        people(here=True)
        state = await node.state("simulated", "paused")
        assert state["data"]["reason"] == "somebody is using this machine"
        people(here=False)
        assert (await asyncio.to_thread(farm.end, given.attempt)).what == "done"
        people(here=True)
        assert await node.state("simulated", "asleep")


async def test_a_processor_that_others_keep_busy_lets_nothing_be_begun(
    mosquitto, farm, tmp_path, monkeypatch
):
    load = 0.9
    monkeypatch.setattr(bank, "processor_load", lambda before, now: load)
    async with farm_node(mosquitto.endpoint, tmp_path, tables=table(most_load=0.5)) as node:
        state = await node.state("simulated", "asleep")
        assert state["data"]["reason"] == "the processor is 90% busy with other things"
        load = 0.1
        assert await node.state("simulated", "idle")
