"""What slots make of renderers, boards, disks and nodes that fail in every way we could think of."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from callboard_core.errors import Conflict, TooLarge, Unavailable
from callboard_nodes.agent import make_agent as make_node
from callboard_nodes.slots.guard import marked
from callboard_nodes.slots.schedule import Verdict
from support import farm as support
from support.farm import Agent, Farm, assignment, farm_node, inputs
from support.mosquitto import mosquitto
from support.nodes import Observer, node_settings
from support.timing import Stopwatch
from support.waiting import wait_until

__all__ = ["mosquitto"]

PNG = {"format": "png", "pattern": "f-##.png"}


@pytest.fixture
def farm(mosquitto):
    found = Farm(mosquitto.endpoint)
    yield found
    found.close()


def shell(name: str, script: str, **more):
    """A command that the node allows: a shell script; $1 is where its output goes, $2 the frame."""
    return {"name": name, "argv": ["/bin/sh", "-c", script, "sh", "{output}", "{frame}"], **more}


def command(name: str, frames: list[int] | None = None, **more):
    return assignment("command", frames, args={"name": name}, **more)


def renderers(node: str) -> list[int]:
    return list(marked(f"callboard/{node}/"))


def is_stopped(pid: int) -> bool:
    """Stopped, or waiting for one that is: a shell for the command it has just forked, a dead one to be reaped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"T", "D", "Z"}


async def until(condition):
    """Ask every 5 ms, on the loop that the slots live on."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is asked for has no event
            await asyncio.sleep(0.005)


COMMANDS = [
    shell("hang", "echo begun; exec sleep 60"),
    shell("mute", "exec sleep 60"),
    shell(
        "stubborn",
        "trap '' TERM; echo begun; (setsid sh -c \"trap '' TERM; sleep 60; sleep 60\" &) ; sleep 60; sleep 60",
    ),
    shell("crash", "echo begun; kill -SEGV $$"),
    shell("leaves", "echo begun; (sleep 60 &); echo made > $1"),
    shell(
        "slow",
        "echo begun; for i in 1 2 3 4 5 6; do sleep 0.1; echo $((i * 16)) %; done; echo made > $1",
        progress=r"(\d+) %",
    ),
    shell("unwritable", "echo begun; echo made > /proc/nothing/here"),
    shell("licence", "echo begun; echo no seat is free; exit 42", licence_exit=[42]),
    shell("nothing", "echo begun"),
    shell("silent", "sleep 0.1; echo made > $1"),
]


@pytest.mark.parametrize(
    ("name", "limits", "fault", "code"),
    [
        ("hang", {"frame_timeout": 0.3}, "node", "frame_timeout"),
        ("mute", {"frame_timeout": 0.3, "start_timeout": 0.1}, "node", "frame_timeout"),
        ("crash", {}, "node", "crashed"),
        ("unwritable", {}, "job", "exit_code"),
        ("licence", {}, "licence", "licence"),
        ("nothing", {}, "job", "no_output"),
        ("unknown", {}, "node", "refused"),
    ],
)
async def test_a_renderer_that_fails_is_ended_and_the_fault_is_told(
    mosquitto, farm, tmp_path, name, limits, fault, code
):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="command=1", commands=COMMANDS) as node:
        given = command(name, **limits)
        await node.assign("command", given)
        end = await asyncio.to_thread(farm.end, given.attempt)
        assert (end.what, end.fault, end.code) == ("failed", fault, code), end
        assert renderers("render-1") == []
        await node.state("command", "idle")


async def test_a_renderer_that_does_not_begin_is_ended(mosquitto, farm, tmp_path):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="simulated=1") as node:
        given = assignment("simulated", [1], args={"startup": 60}, start_timeout=0.3)
        await node.assign("simulated", given)
        end = await asyncio.to_thread(farm.end, given.attempt)
        assert (end.what, end.fault, end.code) == ("failed", "node", "start_timeout")


async def test_what_a_silent_program_takes_is_told_all_the_same(mosquitto, farm, tmp_path):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="command=1", commands=COMMANDS) as node:
        given = command("silent", [1, 2], output={"format": "bin", "pattern": "made-##.bin"})
        await node.assign("command", given)
        assert (await asyncio.to_thread(farm.end, given.attempt)).what == "done"
        assert farm.what(given.attempt) == ["started", "frame", "frame", "done"]
        assert all(0.1 <= one.seconds < 5 for one in farm.frames(given.attempt))


@pytest.mark.parametrize(
    ("misfortune", "fault", "code"),
    [
        ("garbage", "node", "bad_output"),
        ("wrong_size", "job", "wrong_size"),
        ("no_file", "job", "no_output"),
        ("licence", "licence", "licence"),
        ("crash", "node", "crashed"),
    ],
)
async def test_a_bad_frame_does_not_count_and_the_good_ones_before_it_do(
    mosquitto, farm, tmp_path, misfortune, fault, code
):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="simulated=1") as node:
        args = {"image": True, "fail": {"3": misfortune}}
        given = assignment("simulated", [1, 2, 3, 4], args=args, output={**PNG, "width": 8, "height": 8})
        await node.assign("simulated", given)
        end = await asyncio.to_thread(farm.end, given.attempt)
        assert (end.what, end.fault, end.code) == ("failed", fault, code), end
        assert [one.frame for one in farm.frames(given.attempt)] == [1, 2]


async def test_what_ignores_sigterm_and_forks_is_gone_within_a_second_of_cancelling(
    mosquitto, farm, tmp_path
):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="command=1", commands=COMMANDS) as node:
        given = command("stubborn")
        await node.assign("command", given)
        await asyncio.to_thread(farm.wait, given.attempt, "started")
        await until(lambda: len(renderers("render-1")) >= 3)
        watch = Stopwatch()
        await node.order("command", "cancel", attempt=given.attempt)
        end = await asyncio.to_thread(farm.end, given.attempt)
        assert end.what == "cancelled"
        assert watch.within(1.0), watch
        assert renderers("render-1") == []


async def test_what_a_renderer_leaves_behind_does_not_hold_the_slot(mosquitto, farm, tmp_path):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="command=1", commands=COMMANDS) as node:
        given = command("leaves")
        await node.assign("command", given)
        assert (await asyncio.to_thread(farm.end, given.attempt)).what == "done"
        assert renderers("render-1") == []


async def test_pausing_stops_the_process_itself_and_the_lease_lives_on(mosquitto, tmp_path):
    farm = Farm(mosquitto.endpoint, lease=0.3)
    async with farm_node(mosquitto.endpoint, tmp_path, slots="command=1", commands=COMMANDS) as node:
        given = command("slow", frame_timeout=1.2)
        await node.assign("command", given)
        await asyncio.to_thread(farm.wait, given.attempt, "started")
        await node.order("command", "pause")
        await node.state("command", "paused")
        pids = renderers("render-1")
        assert pids
        await until(lambda: all(is_stopped(pid) for pid in pids))
        beats = farm.beats.get(given.attempt, 0)
        await asyncio.to_thread(
            farm.wait_for, lambda: farm.beats.get(given.attempt, 0) >= beats + 12, 10
        )  # longer than a frame may take
        assert farm.what(given.attempt) == ["started"]
        await node.order("command", "resume")
        assert (await asyncio.to_thread(farm.end, given.attempt)).what == "done", farm.events
    farm.close()


async def test_a_slot_out_of_work_gives_back_what_it_has_and_stays_so_over_a_restart(
    mosquitto, farm, tmp_path
):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="simulated=1") as node:
        running, waiting = (assignment("simulated", [1, 2], args={"seconds": 30}) for _ in range(2))
        await node.assign("simulated", running)
        await node.assign("simulated", waiting)
        report = await node.order("simulated", "report")
        assert [(one["attempt"], one["state"]) for one in report["attempts"]] == [
            (running.attempt, "running"),
            (waiting.attempt, "next"),
        ]
        await node.order("simulated", "disable", reason="the fan is loud")
        for one in (running, waiting):
            end = await asyncio.to_thread(farm.end, one.attempt)
            assert (end.what, end.code, end.fault) == ("failed", "released", None)
        with pytest.raises(Unavailable, match="the fan is loud"):
            await node.assign("simulated", assignment("simulated", [1]))
    async with farm_node(mosquitto.endpoint, tmp_path, slots="simulated=1") as node:
        state = await node.state("simulated", "disabled")
        assert state["data"]["reason"] == "the fan is loud"
        with pytest.raises(Conflict):
            await node.order("simulated", "pause")
        await node.order("simulated", "enable")
        given = assignment("simulated", [1])
        await node.assign("simulated", given)
        assert (await asyncio.to_thread(farm.end, given.attempt)).what == "done"


async def test_draining_finishes_what_runs_and_takes_nothing_more(mosquitto, farm, tmp_path):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="simulated=1") as node:
        given = assignment("simulated", [1], args={"seconds": 0.3})
        await node.assign("simulated", given)
        await asyncio.to_thread(farm.wait, given.attempt, "started")
        await node.order("simulated", "drain")
        await node.state("simulated", "draining", "disabled")
        with pytest.raises(Unavailable):
            await node.assign("simulated", assignment("simulated", [1]))
        assert (await asyncio.to_thread(farm.end, given.attempt)).what == "done"
        await node.state("simulated", "disabled")


async def test_frames_made_while_the_broker_is_away_are_all_told_once_it_is_back(mosquitto, tmp_path):
    farm = Farm(mosquitto.endpoint)
    async with farm_node(mosquitto.endpoint, tmp_path, slots="simulated=1") as node:
        given = assignment("simulated", list(range(1, 31)), args={"seconds": 0.03, "image": True}, output=PNG)
        await node.assign("simulated", given)
        await asyncio.to_thread(farm.wait, given.attempt, "frame")
        await asyncio.to_thread(mosquitto.kill)
        slot = node.bank.slots["simulated"]
        await until(lambda: slot.report().attempt is None)
        await asyncio.to_thread(mosquitto.start)
        assert (await asyncio.to_thread(farm.end, given.attempt)).what == "done"
        assert [one.frame for one in farm.frames(given.attempt)] == given.frames
    farm.close()


async def test_a_board_that_only_starts_is_waited_for_and_one_that_does_not_want_it_is_obeyed(
    mosquitto, farm, tmp_path
):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="simulated=1") as node:
        farm.silent = True
        given = assignment("simulated", [1, 2], args={"seconds": 30})
        await node.assign("simulated", given)
        await until(lambda: "busy with itself" in ((node.bank.slots["simulated"].report().reason) or ""))
        farm.unwanted.add(given.attempt)
        farm.silent = False
        await node.state("simulated", "idle")
        attempts = tmp_path / "render-1/farm/attempts"
        await until(lambda: not list(attempts.iterdir()))
        assert farm.what(given.attempt) == []


async def test_a_file_that_is_not_taken_is_offered_again_unless_it_never_will_be(mosquitto, farm, tmp_path):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="simulated=1") as node:
        node.store.down = Unavailable("the disk of the board is full")
        given = assignment("simulated", [1], args={"image": True}, output=PNG)
        await node.assign("simulated", given)
        await until(lambda: "disk of the board" in (node.bank.slots["simulated"].report().reason or ""))
        node.store.down = None
        assert (await asyncio.to_thread(farm.end, given.attempt)).what == "done"
        node.store.down = TooLarge("over the limit")
        given = assignment("simulated", [1, 2], args={"image": True, "seconds": 0.2}, output=PNG)
        await node.assign("simulated", given)
        end = await asyncio.to_thread(farm.end, given.attempt)
        assert (end.what, end.fault, end.code) == ("failed", "job", "too_large")


async def test_cancelling_during_an_upload_ends_the_attempt(mosquitto, farm, tmp_path):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="simulated=1") as node:
        node.store.delay = 0.2
        given = assignment("simulated", [1, 2, 3], args={"image": True, "fail": {"3": "hang"}}, output=PNG)
        await node.assign("simulated", given)
        await until(lambda: node.bank.slots["simulated"].report().frames_done == 2)
        await node.order("simulated", "cancel", attempt=given.attempt)
        assert (await asyncio.to_thread(farm.end, given.attempt)).what == "cancelled"
        await node.state("simulated", "idle")


async def test_what_the_board_takes_back_in_an_answer_is_stopped_and_its_log_and_end_are_told(
    mosquitto, farm, tmp_path
):
    farm.lease = 0.3
    commands = [{"name": "talk", "argv": ["/bin/sh", "-c", "echo begun; sleep 60", "sh", "{output}"]}]
    async with farm_node(mosquitto.endpoint, tmp_path, slots="command=1", commands=commands) as node:
        given = assignment("command", args={"name": "talk"})
        waits = assignment("command", args={"name": "talk"})
        await node.assign("command", given)
        await asyncio.to_thread(farm.wait, given.attempt, "started")
        await node.assign("command", waits)
        farm.taken_back |= {given.attempt, waits.attempt}
        for attempt in (given.attempt, waits.attempt):
            assert (await asyncio.to_thread(farm.end, attempt)).what == "cancelled"
        lines = [line for one in farm.events[given.attempt] if one.what == "log" for line in one.lines]
        assert "begun" in lines
        await node.state("command", "idle")


async def test_an_input_whose_copy_here_was_damaged_is_fetched_again(mosquitto, farm, tmp_path):
    copies = [{"name": "copy", "argv": ["/bin/cp", "{main}", "{output}"]}]
    async with farm_node(mosquitto.endpoint, tmp_path, slots="command=1", commands=copies) as node:
        file = tmp_path / "texture.bin"
        file.write_bytes(b"all is well" * 1000)
        given = [command("copy", inputs=inputs(node.store, file), main=file.name) for _ in range(2)]
        await node.assign("command", given[0])
        assert (await asyncio.to_thread(farm.end, given[0].attempt)).what == "done"
        kept = next((tmp_path / "render-1/farm/cache/content").glob("*/*"))
        kept.chmod(0o600)
        kept.write_bytes(b"ALL is well" * 1000)
        await node.assign("command", given[1])
        assert (await asyncio.to_thread(farm.end, given[1].attempt)).what == "done"
        shas = {farm.frames(one.attempt)[0].artifact.sha256 for one in given}
        assert shas == {given[0].inputs[0].artifact.sha256}


async def test_shared_folders_are_read_and_written_where_the_node_allows_it(mosquitto, farm, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "scene.bin").write_bytes(b"scene")
    copies = [{"name": "copy", "argv": ["/bin/cp", "{main}", "{output}"]}]
    async with farm_node(
        mosquitto.endpoint, tmp_path, slots="command=1", commands=copies, shared=[shared]
    ) as node:
        paths = {"jobs": {"linux": str(shared), "windows": "J:"}}
        given = command(
            "copy",
            inputs=[{"name": "scene.bin", "path": "{jobs}/scene.bin"}],
            main="scene.bin",
            variables=paths,
            output={"format": "bin", "pattern": "made.bin", "folder": "{jobs}/out"},
        )
        await node.assign("command", given)
        assert (await asyncio.to_thread(farm.end, given.attempt)).what == "done", farm.events
        assert [one.name for one in (shared / "out").iterdir()] == ["made.bin"]
        for path in ("/etc/passwd", "{jobs}/../secret", "{jobs}/link"):
            if path.endswith("link"):
                (shared / "link").symlink_to("/etc/passwd")
            given = command("copy", inputs=[{"name": "x", "path": path}], main="x", variables=paths)
            await node.assign("command", given)
            end = await asyncio.to_thread(farm.end, given.attempt)
            assert (end.what, end.code) == ("failed", "refused"), path


async def test_a_shared_folder_that_cannot_be_written_fails_the_task_and_not_the_slot_for_good(
    mosquitto, farm, tmp_path
):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "out").write_text("a file where the folder is to be")
    async with farm_node(mosquitto.endpoint, tmp_path, slots="simulated=1", shared=[shared]) as node:
        output = {**PNG, "folder": f"{shared}/out/shot"}
        given = assignment("simulated", [1, 2], args={"image": True}, output=output)
        await node.assign("simulated", given)
        end = await asyncio.to_thread(farm.end, given.attempt)
        assert (end.what, end.fault, end.code) == ("failed", "node", "unwritable"), end
        assert f"{shared}/out/shot cannot be written" in end.message
        assert farm.frames(given.attempt) == []
        slot = node.bank.slots["simulated"]
        await until(lambda: slot.state == "error" or slot.report().attempt is None)
        await until(lambda: slot.state == "idle")
        (shared / "out").unlink()
        given = assignment("simulated", [1], args={"image": True}, output=output)
        await node.assign("simulated", given)
        assert (await asyncio.to_thread(farm.end, given.attempt)).what == "done"
        assert [one.name for one in (shared / "out/shot").iterdir()] == ["f-01.png"]


async def test_a_slot_keeps_its_renderers_within_their_limits(mosquitto, farm, tmp_path):
    eat = "x = bytearray(400_000_000); open(__import__('sys').argv[1], 'w').write('eaten')"
    commands = [
        {"name": "eat", "argv": [sys.executable, "-c", eat, "{output}"]},
        shell("nice", "echo begun; nice > $1"),
    ]
    tables = [{"engine": "command", "memory_mb": 100, "nice": 7, "task_seconds": 5}]
    async with farm_node(mosquitto.endpoint, tmp_path, tables=tables, commands=commands) as node:
        given = [command("eat"), command("nice")]
        for one in given:
            await node.assign("command", one)
        assert (await asyncio.to_thread(farm.end, given[0].attempt)).code == "exit_code"
        assert any("MemoryError" in line for one in farm.events[given[0].attempt] for line in one.lines or ())
        assert (await asyncio.to_thread(farm.end, given[1].attempt)).what == "done"
        made = node.store.path(farm.frames(given[1].attempt)[0].artifact).read_text()
        assert int(made) == os.nice(0) + 7


async def test_a_task_that_takes_longer_than_its_slot_allows_is_ended(mosquitto, farm, tmp_path):
    tables = [{"engine": "simulated", "task_seconds": 0.3}]
    async with farm_node(mosquitto.endpoint, tmp_path, tables=tables) as node:
        given = assignment("simulated", [1], args={"seconds": 60})
        await node.assign("simulated", given)
        end = await asyncio.to_thread(farm.end, given.attempt)
        assert (end.what, end.fault, end.code) == ("failed", "node", "task_timeout")


async def test_a_schedule_puts_a_slot_to_sleep_or_stops_its_renderer_and_people_overrule_it(
    mosquitto, farm, tmp_path
):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="simulated=1") as node:
        slot = node.bank.slots["simulated"]
        opened = Verdict(may_start=True, may_run=True)
        night = Verdict(may_start=False, may_run=False, reason="works at night")
        used = Verdict(may_start=False, may_run=False, reason="somebody is here", pause=True)
        busy = Verdict(may_start=False, may_run=True, reason="the processor is busy")
        given = [assignment("simulated", [1], args={"seconds": 30}) for _ in range(2)]
        await node.assign("simulated", given[0])
        await asyncio.to_thread(farm.wait, given[0].attempt, "started")
        slot.judge(used)
        assert slot.state == "paused"
        slot.judge(opened)
        assert slot.state == "rendering"
        slot.judge(busy)
        assert slot.state == "rendering", "what runs may go on"
        slot.judge(night)
        assert (slot.state, slot.report().reason) == ("asleep", "works at night")
        assert (await asyncio.to_thread(farm.end, given[0].attempt)).code == "released"
        await node.order("simulated", "wake")
        slot.judge(night)
        assert slot.state == "idle", "a person's word holds until the hours have come and gone"
        await node.assign("simulated", given[1])
        slot.judge(opened)
        slot.judge(night)
        assert slot.state == "asleep"
        slot.judge(opened)
        assert slot.state == "idle"
        await node.order("simulated", "sleep")
        slot.judge(opened)
        assert slot.state == "asleep", "a schedule does not wake what a person put to sleep"


async def test_a_second_node_of_the_same_name_leaves_the_firsts_renderers_alone(mosquitto, farm, tmp_path):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="command=1", commands=COMMANDS) as node:
        given = command("hang")
        await node.assign("command", given)
        await asyncio.to_thread(farm.wait, given.attempt, "started")
        settings = node_settings(
            tmp_path / "b", mosquitto.endpoint, id="render-1", farm={"slots": "simulated=1"}
        )
        with pytest.raises(Conflict):
            await asyncio.to_thread(make_node(settings, restart=lambda: None).start)
        assert renderers("render-1")
        await node.order("command", "cancel")
        assert (await asyncio.to_thread(farm.end, given.attempt)).what == "cancelled"


@pytest.fixture
def small_disk(tmp_path):
    """The node's state folder on a disk of 3 MiB."""
    small = tmp_path / "render-1"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("mounting needs root")
    yield small
    subprocess.run(["umount", "-l", str(small)], check=True)


async def test_a_full_disk_fails_the_task_and_closes_the_slot_until_there_is_room(
    mosquitto, farm, tmp_path, small_disk
):
    commands = [shell("fill", "echo begun; cat /dev/zero > $1 || exit 1")]
    async with farm_node(
        mosquitto.endpoint, tmp_path, slots="command=1,simulated=1", commands=commands
    ) as node:
        (small_disk / "ballast").write_bytes(b"\0" * 2_500_000)
        given = assignment("simulated", [1])
        await node.assign("simulated", given)
        end = await asyncio.to_thread(farm.end, given.attempt)
        assert (end.what, end.fault, end.code) == ("failed", "node", "disk_full")
        assert "MiB are free" in (await node.state("simulated", "error"))["data"]["reason"]
        with pytest.raises(Unavailable):
            await node.assign("simulated", assignment("simulated", [1]))
        (small_disk / "ballast").unlink()
        await node.state("simulated", "idle")
        given = command("fill")
        await node.assign("command", given)
        end = await asyncio.to_thread(farm.end, given.attempt)
        assert end.what == "failed"
        await until(lambda: not list((small_disk / "farm/attempts").iterdir()))


def make_agent(folder: Path, endpoint, **farm) -> Agent:
    settings = node_settings(
        folder, endpoint, id="render-1", builtin_sensors=False, farm={"min_free_mb": 1, **farm}
    )
    settings.commands = COMMANDS
    agent = Agent(folder, settings, folder / "artifacts")
    agent.start()
    return agent


def test_an_agent_that_is_killed_takes_its_renderers_along_and_tells_what_became_of_them(
    mosquitto, farm, tmp_path
):
    observer = Observer(mosquitto.endpoint)
    agent = make_agent(tmp_path, mosquitto.endpoint, slots="simulated=1,command=1")
    try:
        frames, stubborn = (
            assignment("simulated", [1, 2, 3], args={"image": True, "fail": {"3": "hang"}}, output=PNG),
            command("stubborn"),
        )
        for slot, one in (("simulated", frames), ("command", stubborn)):
            observer.call("render-1", "slot", slot, do="assign", assignment=support.as_args(one))
        farm.wait_for(lambda: len(farm.frames(frames.attempt)) == 2, 10)
        wait_until(lambda: len(renderers("render-1")) >= 3)
        farm.silent = True
        agent.kill()
        wait_until(lambda: not renderers("render-1"), 3)
        farm.silent = False
        agent.start()
        for one in (frames, stubborn):
            end = farm.end(one.attempt)
            assert (end.what, end.fault, end.code) == ("failed", "node", "restarted")
        assert [one.frame for one in farm.frames(frames.attempt)] == [1, 2]
        wait_until(lambda: not list((tmp_path / "state/nodes/render-1/farm/attempts").iterdir()))
    finally:
        agent.kill(signal.SIGTERM)
        observer.close()
    assert renderers("render-1") == []


def test_an_agent_that_is_stopped_in_order_gives_its_work_back(mosquitto, farm, tmp_path):
    observer = Observer(mosquitto.endpoint)
    agent = make_agent(tmp_path, mosquitto.endpoint, slots="command=1")
    given = command("stubborn")
    observer.call("render-1", "slot", "command", do="assign", assignment=support.as_args(given))
    farm.wait(given.attempt, "started")
    watch = Stopwatch()
    agent.kill(signal.SIGTERM)
    assert watch.within(5), watch
    end = farm.end(given.attempt)
    assert (end.what, end.code) == ("failed", "released")
    wait_until(lambda: not renderers("render-1"), 3)
    observer.close()
