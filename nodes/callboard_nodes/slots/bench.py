"""What an attempt works with on its slot, and how it is set up before an engine begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter

from callboard_core.errors import Forbidden, NotFound
from callboard_core.farm.messages import Assignment, Input, Output
from callboard_nodes.aside import aside
from callboard_nodes.slots.engines.base import Args, Engine, Work, read_args
from callboard_nodes.slots.inputs import Fetcher, InputCache, SharedFolders, Tree
from callboard_nodes.slots.runs import Launch, WarmPool
from callboard_nodes.slots.troubles import check_room

__all__ = ["Bench", "Source", "prepare"]

_INPUTS: TypeAdapter[list[Input]] = TypeAdapter(list[Input])


class Source(Fetcher, Protocol):
    """Where inputs come from."""

    def get(self, ref: Any) -> bytes:
        """Fetch content."""


@dataclass(frozen=True)
class Bench:
    """What an attempt works with on its slot."""

    engine: Engine
    program: str
    version: str
    cache: InputCache
    shared: SharedFolders
    source: Callable[[], Source]
    launch: Launch
    warm: WarmPool
    threads: int | None = None
    scripts: bool = False
    min_free: int = 0


async def prepare(assignment: Assignment, bench: Bench, folder: Path) -> tuple[Tree | None, Work]:
    """Bring the inputs and lay out the folders.

    Returns:
        The inputs, to be released at the end, and the work as the engine takes it.

    Raises:
        Broken: there is no room.
        CallboardError: the arguments are wrong, or an input cannot be had.
        OSError: the disk refuses.
    """
    args = _allowed(read_args(bench.engine.args, assignment.args), bench)
    work, out = folder / "work", folder / "out"
    output = assignment.output or Output(format="", pattern="output")
    work.mkdir()
    (out / output.pattern).parent.mkdir(parents=True)
    check_room(folder, bench.min_free)
    tree = await _bring(assignment, bench)
    files: Mapping[str, Path] = {} if tree is None else tree.files
    if assignment.main is not None and assignment.main not in files:
        if tree is not None:
            bench.cache.release(tree)
        raise NotFound(f"main: {assignment.main!r} is none of the inputs")
    return tree, Work(
        frames=tuple(assignment.frames) if assignment.work == "frames" else (),
        main=None if assignment.main is None else files[assignment.main],
        inputs=files,
        folder=work,
        out=out,
        output=output,
        args=args,
        threads=bench.threads,
        program=bench.program,
        version=bench.version,
    )


def _allowed(args: Args, bench: Bench) -> Args:
    if getattr(args, "autoexec", False) and not bench.scripts:
        raise Forbidden(
            "args: autoexec: this node runs no scripts of jobs' files; set node.farm.scripts to allow it"
        )
    return args


async def _bring(assignment: Assignment, bench: Bench) -> Tree | None:
    inputs: Sequence[Input] = assignment.inputs
    if assignment.manifest is not None:
        listed = await aside(bench.source().get, assignment.manifest)
        inputs = [*inputs, *_INPUTS.validate_json(listed)]
    if not inputs:
        return None
    holding = asyncio.ensure_future(aside(bench.cache.hold, inputs, bench.source, assignment.variables))
    try:
        return await asyncio.shield(holding)
    except asyncio.CancelledError:  # the thread goes on, and what it brings is nobody's
        holding.add_done_callback(partial(_release_late, bench.cache))
        raise


def _release_late(cache: InputCache, holding: asyncio.Future[Tree]) -> None:
    if not holding.cancelled() and holding.exception() is None:
        cache.release(holding.result())
