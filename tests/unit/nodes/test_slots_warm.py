"""A warm renderer: who gets it, and when it is replaced."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from callboard_core.farm.logs import heading
from callboard_nodes.slots.engines.base import Begun, Finished, Program, Trouble
from callboard_nodes.slots.runs import GROWN, Ended, Hearing, WarmPool


class Reader:
    def line(self, text):
        if text.startswith("begin "):
            return [Begun(int(text.removeprefix("begin ")))]
        return [Finished()] if text == "finished" else []

    def ended(self, code):
        return Trouble("node", "crashed", f"exit code {code}") if code else None


class Child:
    """A process that does nothing."""

    def __init__(self, pid, heard):
        self.pid, self.heard, self.told = pid, heard, []
        self._exit = asyncio.get_running_loop().create_future()

    @property
    def alive(self):
        return not self._exit.done()

    def tell(self, line):
        self.told.append(line)

    async def wait(self):
        return await asyncio.shield(self._exit)

    async def end(self):
        self.exit(0)

    def exit(self, code):
        if self.alive:
            self._exit.set_result(code)


class Stage:
    """A pool, and what it starts."""

    def __init__(self, most=1000):
        self.children, self.lines, self.taken = [], [], 0
        self.pool = WarmPool(most, lambda _: self.taken)

    def launch(self, program, heard):
        self.children.append(Child(len(self.children) + 1, heard))
        return self.children[-1]

    def open(self, frames=1, key="a"):
        saves = {frame: Path(f"{frame}.png") for frame in range(frames)}
        program = Program(("blender",), Reader(), saves, warm=key, request="do it")
        return self.pool.open(program, self.launch, self.lines.append, lambda: None)

    async def work(self, frames=1, key="a"):
        run = self.open(frames, key)
        self.children[-1].heard("finished")
        while not isinstance(word := (await run.words.get())[1], Ended):
            pass
        assert word.trouble is None
        await asyncio.sleep(0)


@pytest.fixture
async def stage():
    made = Stage()
    yield made
    await made.pool.close()


async def test_tasks_of_one_key_share_a_process_and_another_key_ends_it(stage):
    await stage.work()
    await stage.work()
    assert [child.told for child in stage.children] == [["do it", "do it"]]
    await stage.work(key="b")
    assert [child.alive for child in stage.children] == [False, True]


async def test_a_process_that_has_made_enough_frames_is_replaced():
    stage = Stage(most=10)
    for _ in range(3):
        await stage.work(frames=5)
    assert [len(child.told) for child in stage.children] == [2, 1]
    assert [child.alive for child in stage.children] == [False, True]
    await stage.pool.close()


async def test_a_process_that_has_grown_is_replaced_and_one_that_was_large_from_the_start_is_not(stage):
    stage.taken = 8 * GROWN
    await stage.work()
    stage.taken = 17 * GROWN
    await stage.work()
    assert stage.children[0].alive
    stage.taken += 1
    await stage.work()
    await stage.work()
    assert [len(child.told) for child in stage.children] == [3, 1]


async def test_a_process_that_died_between_two_tasks_is_replaced(stage):
    await stage.work()
    stage.children[0].exit(-9)
    await asyncio.sleep(0)
    await stage.work()
    assert len(stage.children) == 2


async def test_a_crash_is_the_trouble_of_the_task_at_work_and_of_no_other(stage):
    run = stage.open()
    stage.children[0].exit(-11)
    _, word = await run.words.get()
    assert word == Ended(Trouble("node", "crashed", "exit code -11"))
    await stage.work()


async def test_what_an_ended_process_says_late_is_not_taken_for_its_successors(stage):
    await stage.work()
    run = stage.open(key="b")
    stage.children[0].heard("finished")
    assert run.words.empty()
    assert stage.lines == ["finished"]


async def test_what_is_printed_for_a_frame_stands_under_its_heading():
    lines = []
    program = Program(("blender",), Reader(), {1: Path("1"), 2: Path("2")}, noise=("begin", "~"))
    hearing = Hearing(program, lines.append)
    for line in ("hello", "begin 1", "begin 1", "~ noise", "warning", "begin 2", "saved"):
        assert not hearing.take(line)
    assert hearing.take("finished")
    assert lines == ["hello", heading(1), "warning", heading(2), "saved", "finished"]


async def test_a_program_that_works_from_its_start_on_has_its_heading_there():
    lines = []
    hearing = Hearing(Program(("paint",), Reader(), {7: Path("7")}, at_once=True), lines.append)
    hearing.take("red")
    assert lines == [heading(7), "red"]
    Hearing(Program(("encode",), Reader(), {None: Path("video")}, at_once=True), lines.append).take("fine")
    assert lines[2:] == ["fine"]
