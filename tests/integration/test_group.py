"""A real supervisor over real processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from callboard_core.errors import BadRequest
from callboard_nodes.group import Ended, Event, GroupFailed, Logged, Member, Policy, Ready, Supervisor

QUICK = Policy(first=0.01, longest=0.05, settled=5, loop=4, give_up=3)

TELL = "import os; os.write(int(os.environ['NOTIFY_FD']), b'{\"ready\": {\"answer\": 42}}\\n');"
SLEEP = "import signal; signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {TELL} {SLEEP}"


def python(name: str, code: str, **more: object) -> Member:
    return Member(name=name, command=(sys.executable, "-S", "-E", "-c", code), **more)


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, done: Callable[[list[Event]], bool]) -> None:
        async with asyncio.timeout(20):
            while not done(self.events):
                self._changed.clear()
                await self._changed.wait()

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def running(*members: Member, policy: Policy = QUICK) -> AsyncIterator[tuple[Supervisor, Recorder]]:
    recorder = Recorder()
    supervisor = Supervisor(members, recorder, policy=policy)
    supervisor.start()
    try:
        yield supervisor, recorder
    finally:
        await supervisor.stop()


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def gone(*pids: int) -> None:
    async with asyncio.timeout(5):
        while any(alive(pid) for pid in pids):  # noqa: ASYNC110 - /proc has no events
            await asyncio.sleep(0.02)


async def test_a_member_is_ready_when_it_says_so_and_what_it_tells_is_passed_on():
    async with running(python("one", TELL + SLEEP)) as (supervisor, recorder):
        await supervisor.wait_ready()
        (ready,) = recorder.of(Ready)
        assert ready.info == {"answer": 42}
        assert supervisor.pids == {"one": ready.pid}


async def test_a_killed_member_is_started_again_and_becomes_ready():
    async with running(python("one", TELL + SLEEP)) as (supervisor, recorder):
        await supervisor.wait_ready()
        os.kill(supervisor.pids["one"], signal.SIGKILL)
        await recorder.until(lambda events: len([e for e in events if isinstance(e, Ready)]) == 2)
        (ended,) = recorder.of(Ended)
        assert ended.reason == "killed by SIGKILL"
        assert supervisor.restarts == {"one": 1}


async def test_members_stop_only_after_those_that_need_them():
    say = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)));"
    members = [
        python("broker", say + TELL + SLEEP),
        python("board", say + TELL + SLEEP, needs=("broker",)),
        python("node", say + TELL + SLEEP, needs=("broker", "board")),
    ]
    async with running(*members) as (supervisor, recorder):
        await supervisor.wait_ready()
    assert [event.name for event in recorder.of(Logged)] == ["node", "board", "broker"]


async def test_stopping_takes_no_longer_than_promised_and_leaves_nothing():
    recorder = Recorder()
    supervisor = Supervisor([python("deaf", STUBBORN)], recorder, stop_within=1.0)
    supervisor.start()
    await supervisor.wait_ready()
    pid = supervisor.pids["deaf"]
    began = asyncio.get_running_loop().time()
    await supervisor.stop()
    assert asyncio.get_running_loop().time() - began < 1.5
    assert not alive(pid)


async def test_what_a_member_started_ends_with_it():
    code = f"import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); {TELL} {SLEEP}"
    async with running(python("one", code)) as (supervisor, recorder):
        await supervisor.wait_ready()
        await recorder.until(lambda events: any(isinstance(e, Logged) for e in events))
        grandchild = int(recorder.of(Logged)[0].line)
        os.kill(supervisor.pids["one"], signal.SIGKILL)
        await recorder.until(lambda events: any(isinstance(e, Ended) for e in events))
        await gone(grandchild)


async def test_a_crash_loop_is_reported_with_the_last_lines():
    code = f"{TELL} print('cannot read the tea leaves', flush=True); raise SystemExit(3)"
    async with running(python("one", code)) as (_supervisor, recorder):
        await recorder.until(lambda events: any(isinstance(e, Ended) and e.looping for e in events))
        looping = next(event for event in recorder.of(Ended) if event.looping)
        assert looping.reason == "ended with exit code 3: cannot read the tea leaves"
        assert looping.last_lines[-1] == "cannot read the tea leaves"
        assert looping.delay is not None


async def test_a_start_that_fails_again_and_again_is_given_up():
    async with running(python("one", "raise SystemExit('no bread')")) as (supervisor, recorder):
        with pytest.raises(GroupFailed, match="no bread") as caught:
            await supervisor.wait_ready()
        assert caught.value.member == "one"
        assert len(recorder.of(Ended)) == QUICK.give_up


async def test_a_final_error_is_given_up_at_once_and_keeps_its_kind():
    code = (
        "import os; os.write(int(os.environ['NOTIFY_FD']), "
        'b\'{"error": "say please", "code": "bad_request", "final": true}\\n\'); raise SystemExit(1)'
    )
    async with running(python("one", code)) as (supervisor, recorder):
        with pytest.raises(GroupFailed, match="say please") as caught:
            await supervisor.wait_ready()
        assert isinstance(caught.value.cause, BadRequest)
        assert len(recorder.of(Ended)) == 1


async def test_a_program_that_does_not_exist_is_a_failure_with_its_name():
    async with running(Member(name="one", command=("/no/such/program",))) as (supervisor, _recorder):
        with pytest.raises(GroupFailed, match="/no/such/program"):
            await supervisor.wait_ready()


async def test_a_very_long_line_is_read_in_pieces():
    code = f"print('x' * 200_000, flush=True); {TELL} {SLEEP}"
    async with running(python("one", code)) as (_supervisor, recorder):
        await recorder.until(
            lambda events: sum(len(e.line) for e in events if isinstance(e, Logged)) == 200_000
        )


async def test_stopping_while_starting_leaves_nothing():
    async with running(python("one", SLEEP), python("two", SLEEP)) as (supervisor, recorder):
        await recorder.until(lambda events: len(events) >= 2)
        pids = supervisor.pids.values()
    assert not any(alive(pid) for pid in pids)


@pytest.mark.parametrize(
    "members",
    [[python("one", SLEEP), python("one", SLEEP)], [python("one", SLEEP, needs=("two",))]],
)
async def test_a_group_that_makes_no_sense_is_refused(members: list[Member]):
    with pytest.raises(BadRequest):
        Supervisor(members, Recorder())


async def test_members_die_with_a_supervisor_that_is_killed(tmp_path: Path):
    program = tmp_path / "group.py"
    program.write_text(
        f"""
import asyncio, sys
from callboard_nodes.group import Member, Ready, Supervisor

def report(event):
    if isinstance(event, Ready):
        print(event.pid, flush=True)

async def main():
    command = (sys.executable, "-S", "-E", "-c", {STUBBORN!r})
    supervisor = Supervisor([Member(name=n, command=command) for n in "ab"], report)
    supervisor.start()
    await supervisor.wait_ready()
    await asyncio.Event().wait()

asyncio.run(main())
"""
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    pids = [int(await process.stdout.readline()) for _ in range(2)]
    process.kill()
    await process.wait()
    await gone(*pids)
