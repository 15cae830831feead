"""A group: all members are started at once, kept running, and stopped in the order of what they need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from callboard_core.errors import BadRequest, CallboardError, Failed
from callboard_nodes.group.member import Event, Member
from callboard_nodes.group.policy import Policy, State
from callboard_nodes.group.runner import Runner

__all__ = ["GroupFailed", "Supervisor"]

#: Of the time to stop, what is kept back for killing those that did not end.
_KILL_RESERVE = 0.5


class GroupFailed(Failed):
    """A member could not be started. ``cause`` is its own error, with its own code."""

    def __init__(self, member: str, cause: CallboardError) -> None:
        super().__init__(f"{member}: {cause.message}")
        self.member = member
        self.cause = cause


class Supervisor:
    """Runs the members of a group.

    Args:
        members: what to run; names are unique.
        report: called with every event, on the event loop; it must not raise.
        policy: when members that ended are started again.
        stop_within: seconds in which :meth:`stop` is through, whatever the members do.

    Raises:
        BadRequest: a name is used twice, or a member needs one that is not there.
    """

    def __init__(
        self,
        members: Sequence[Member],
        report: Callable[[Event], None],
        *,
        policy: Policy | None = None,
        stop_within: float = 5.0,
    ) -> None:
        _check(members)
        policy = policy or Policy()
        self._runners = {member.name: Runner(member, policy, report) for member in members}
        self._stop_within = stop_within
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the members that run now."""
        return {name: runner.pid for name, runner in self._runners.items() if runner.pid is not None}

    @property
    def states(self) -> dict[str, State]:
        """Where each member stands."""
        return {name: runner.state for name, runner in self._runners.items()}

    @property
    def restarts(self) -> dict[str, int]:
        """How often each member was started again."""
        return {name: max(0, runner.starts - 1) for name, runner in self._runners.items()}

    def start(self) -> None:
        """Start all members, all at once; they wait for each other where they must."""
        self._tasks = [asyncio.create_task(runner.keep()) for runner in self._runners.values()]

    async def wait_ready(self) -> None:
        """Return once every member has been ready.

        Raises:
            GroupFailed: one of them cannot be started.
        """
        waiting = {asyncio.create_task(self._settled(runner)) for runner in self._runners.values()}
        try:
            for next_one in asyncio.as_completed(waiting):
                await next_one
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def stop(self) -> None:
        """Stop all members, each one after those that need it; kill what is left when time is up."""
        try:
            async with asyncio.timeout(self._stop_within - _KILL_RESERVE):
                await asyncio.gather(*(self._stop_one(runner) for runner in self._runners.values()))
        except TimeoutError:
            for runner in self._runners.values():
                runner.kill()
        await asyncio.gather(*self._tasks)

    async def _settled(self, runner: Runner) -> None:
        await runner.settled.wait()
        if isinstance(runner.failure, CallboardError):
            raise GroupFailed(runner.member.name, runner.failure)

    async def _stop_one(self, runner: Runner) -> None:
        needy = [other for other in self._runners.values() if runner.member.name in other.member.needs]
        await asyncio.gather(*(other.done.wait() for other in needy))
        runner.stop()
        await runner.done.wait()


def _check(members: Sequence[Member]) -> None:
    names = [member.name for member in members]
    for name in names:
        if names.count(name) > 1:
            raise BadRequest(f"two members are called {name!r}; give each its own name")
    for member in members:
        missing = set(member.needs) - set(names)
        if missing:
            raise BadRequest(f"{member.name!r} needs {', '.join(sorted(missing))}, which is not in the group")
