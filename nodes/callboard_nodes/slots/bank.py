"""All slots of a node: made of what is configured and found, called by the board, looked after, and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pydantic import JsonValue, ValidationError

from callboard_core import topics
from callboard_core.callee import Callee, Request
from callboard_core.cards import SlotCard
from callboard_core.errors import CallboardError
from callboard_core.farm.messages import SlotCommand, as_args
from callboard_core.link import Link, Message
from callboard_core.messages import State, Status, StatusName, describe, parse
from callboard_core.presence import Presence
from callboard_core.settings import Settings
from callboard_core.topics import BOARD, Kind
from callboard_nodes.aside import aside
from callboard_nodes.sensors.cpu import parse_stat
from callboard_nodes.slots import configured, devices, images
from callboard_nodes.slots.bench import Bench
from callboard_nodes.slots.configured import SlotPlan
from callboard_nodes.slots.detect import PROGRAMS, Detector, Found, usual_memory
from callboard_nodes.slots.engines import make
from callboard_nodes.slots.engines.base import Program
from callboard_nodes.slots.guard import kill_marked
from callboard_nodes.slots.inputs import InputCache, SharedFolders
from callboard_nodes.slots.journal import Journal
from callboard_nodes.slots.keeper import Keeper
from callboard_nodes.slots.office import Office
from callboard_nodes.slots.process import Child, Guard, Limits
from callboard_nodes.slots.runs import WarmPool
from callboard_nodes.slots.schedule import Moment, idle_seconds, processor_load
from callboard_nodes.slots.slot import Slot
from callboard_nodes.slots.troubles import Broken, check_room

__all__ = ["Bank", "Desk"]

_log = logging.getLogger("callboard.slots")

#: Engines whose results are images.
_PAINTERS = frozenset({"blender", "blender-persistent", "povray"})
#: Seconds between two looks at schedules and at what is broken.
_LOOK = 2.0
#: Seconds for what is to be told at a stop.
_FAREWELL = 1.0


class Desk(Protocol):
    """What is needed of the running node."""

    link: Link
    presence: Presence
    callee: Callee


class Bank:
    """The slots of a running node; lives on its event loop.

    Args:
        desk: the node.
        settings: what is configured.
        state: the node's state folder.
        search: where to look for programs; the environment's path when None.

    Raises:
        BadRequest: a slot or command is configured wrongly; the message names it.
    """

    def __init__(self, desk: Desk, settings: Settings, state: Path, *, search: str | None = None) -> None:
        self.slots: dict[str, Slot] = {}
        self._desk, self._farm = desk, settings.node.farm
        self._folder = state / "farm"
        self._loop = asyncio.get_running_loop()
        self._detector = Detector(usual_memory(), search=search)
        wanted = self._farm.slots
        self._plans = configured.plans(wanted, settings.slots, self._detector.is_there)
        self._templates = configured.templates(settings.commands)
        self._shared = SharedFolders(tuple(self._farm.shared), self._farm.variables)
        self._cache = InputCache(
            self._folder / "cache", limit=int(self._farm.cache_mb * 2**20), shared=self._shared
        )
        # The state folder is locked by this process: nobody else's renderers carry its mark.
        where = hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:12]
        self._guard = Guard(f"{settings.site}/{settings.node.id}/{where}/")
        self._keeper = Keeper(self._folder / "slots.json")
        self._office = Office(desk.link)
        self._machine: devices.Machine | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._orphans: dict[str, list[Journal]] = {}
        self._ticks: tuple[int, int] | None = None
        self._greeted = False

    # -- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Offer the slots: at once those whose programs are known, the others as soon as they have answered."""
        if not self._plans:
            return
        self._desk.link.on_connect(self._connected)
        self._desk.link.subscribe(topics.status(self._desk.link.site, BOARD), self._board_said, qos=0)
        self._take_up()
        unknown = []
        for plan in self._offerable():
            found = self._known(plan)
            if found is None:
                unknown.append(plan)
            else:
                self._offer(plan, found)
        self._spawn(self._find(unknown))
        self._spawn(self._look_after())

    def _connected(self) -> None:
        self._loop.call_soon_threadsafe(self._office.connected)

    def _board_said(self, message: Message) -> None:
        with contextlib.suppress(CallboardError):
            if message.payload and parse(Status, message.payload).status is StatusName.READY:
                self._connected()
                self._loop.call_soon_threadsafe(self._greet)

    def _greet(self) -> None:
        """Once is enough: a fleet must not log in all at a time whenever the board has come back."""
        if not self._greeted:
            self._greeted = True
            self._spawn(self._office.greet())

    async def stop(self) -> None:
        """Give back what runs, and end it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(slot.stop(_FAREWELL) for slot in self.slots.values()))
        await aside(self._guard.stop)

    def _take_up(self) -> None:
        """Find what an earlier process left: renderers that outlived it, and events that were not sent."""
        kill_marked(self._guard.mark)
        attempts = self._folder / "attempts"
        for folder in sorted(attempts.iterdir()) if attempts.exists() else []:
            journal = Journal.load(folder)
            if journal is None or journal.slot not in {plan.name for plan in self._plans}:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                self._orphans.setdefault(journal.slot, []).append(journal)

    # -- what there is -----------------------------------------------------------------------------------------

    def _offerable(self) -> list[SlotPlan]:
        if images.can_decode():
            return self._plans
        for plan in self._plans:
            if plan.engine in _PAINTERS:
                _log.warning(
                    "slot %s is not offered: it needs Pillow; pip install 'callboard[farm]'", plan.name
                )
        return [plan for plan in self._plans if plan.engine not in _PAINTERS]

    def _known(self, plan: SlotPlan) -> Found | None:
        if plan.engine not in PROGRAMS:
            return Found("", "", "")
        return self._detector.known(PROGRAMS[plan.engine], plan.program)

    async def _find(self, unknown: list[SlotPlan]) -> None:
        self._machine = await aside(devices.machine)
        for name in list(self.slots):
            self._announce(next(plan for plan in self._plans if plan.name == name))
        for plan in unknown:
            found = await aside(self._detector.find, PROGRAMS[plan.engine], plan.program)
            if found is None:
                _log.warning(
                    "slot %s is not offered: there is no working %s here", plan.name, PROGRAMS[plan.engine]
                )
            else:
                self._offer(plan, found)

    def _offer(self, plan: SlotPlan, found: Found) -> None:
        limits = plan.limits
        bench = Bench(
            engine=make(plan.engine, self._templates),
            program=found.path,
            version=found.version,
            cache=self._cache,
            shared=self._shared,
            source=lambda: self._office.store,
            launch=partial(self._launch, plan),
            warm=WarmPool(),
            threads=limits.threads if limits else None,
            scripts=self._farm.scripts,
            min_free=int(self._farm.min_free_mb * 2**20),
        )
        slot = Slot(
            plan.name,
            plan.engine,
            bench,
            attempts=self._folder / "attempts",
            office=self._office,
            publish=partial(self._publish, plan.name),
            keep=partial(self._keeper.put, plan.name),
            kept=self._keeper.get(plan.name),
            task_seconds=limits.task_seconds if limits else None,
        )
        self.slots[plan.name] = slot
        for journal in self._orphans.pop(plan.name, []):
            slot.adopt(journal)
        self._desk.callee.handle(
            Kind.SLOT, plan.name, partial(self._command, slot), run="inline", concurrency=100
        )
        self._announce(plan)

    def _announce(self, plan: SlotPlan) -> None:
        found, machine = self._known(plan), self._machine
        self._desk.presence.pin(
            SlotCard(
                name=plan.name,
                epoch=0,
                label=plan.label,
                tags=list(plan.tags),
                engine=plan.engine,
                version=(found.version or None) if found else None,
                devices=list(machine.devices) if machine else [],
                cores=machine.cores if machine else None,
                memory=machine.memory if machine else None,
                platform=machine.platform if machine else None,
                limits=plan.limits,
                schedule=str(plan.schedule) or None,
            )
        )

    def _launch(self, plan: SlotPlan, program: Program, heard: Callable[[str], None]) -> Child:
        self._guard.start()
        limits = Limits(plan.limits.nice, plan.limits.memory) if plan.limits else Limits()
        return Child(
            program.argv,
            mark=f"{self._guard.mark}{plan.name}/{time.monotonic_ns()}",
            heard=heard,
            cwd=self._folder,
            env=program.env,
            limits=limits,
            talk=program.warm is not None,
        )

    # -- calls -------------------------------------------------------------------------------------------------

    def _command(self, slot: Slot, request: Request) -> Future[JsonValue]:
        async def carry_out() -> JsonValue:
            try:
                command = SlotCommand.model_validate(dict(request.args))
            except ValidationError as error:
                raise describe(error) from None
            return dict(as_args(slot.command(command)))

        return asyncio.run_coroutine_threadsafe(carry_out(), self._loop)

    def _publish(self, name: str, state: State) -> None:
        try:
            self._desk.presence.state(Kind.SLOT, name, state)
        except CallboardError as error:
            _log.debug("the state of slot %s waits for the next connect: %s", name, error)

    # -- looking after -----------------------------------------------------------------------------------------

    async def _look_after(self) -> None:
        """See that slots keep to their schedules, and that what was broken and is not any more works again."""
        scheduled = {plan.name: plan.schedule for plan in self._plans if plan.schedule}
        while True:
            if scheduled:
                moment = await aside(self._moment)
                for name, schedule in scheduled.items():
                    if name in self.slots:
                        self.slots[name].judge(schedule.judge(moment))
            for plan in self._plans:
                slot = self.slots.get(plan.name)
                if slot is not None and slot.state == "error" and self._works(plan):
                    slot.mend()
            await asyncio.sleep(_LOOK)

    def _works(self, plan: SlotPlan) -> bool:
        if plan.engine in PROGRAMS and not self._detector.is_there(PROGRAMS[plan.engine], plan.program):
            return False
        probe = self._folder / "probe"
        try:
            check_room(self._folder, int(self._farm.min_free_mb * 2**20))
            probe.write_bytes(b"\0" * 4096)
            probe.unlink()
        except (OSError, Broken):
            return False
        return True

    def _moment(self) -> Moment:
        load: float | None = None
        try:
            with Path("/proc/stat").open(encoding="ascii") as file:
                ticks = parse_stat(file.readline())
        except (OSError, ValueError):
            ticks = None
        if ticks is not None:
            load, self._ticks = processor_load(self._ticks, ticks), ticks
        if any(slot.state in {"starting", "rendering"} for slot in self.slots.values()):
            load = None  # it would be our own
        return Moment(datetime.now().astimezone(), load, idle_seconds())

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
