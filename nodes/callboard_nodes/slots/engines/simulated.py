"""No renderer at all: frames that take a set time, and faults on demand. For tests and for load."""

from __future__ import annotations

import math
import random
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from callboard_core.errors import BadRequest
from callboard_nodes.slots.engines.base import (
    Args,
    Begun,
    Heard,
    Progressed,
    Saved,
    Simulation,
    Trouble,
    Work,
)

__all__ = ["Simulated", "SimulatedArgs", "png"]

Misfortune = Literal["node", "job", "licence", "hang", "crash", "no_file", "garbage", "wrong_size"]

#: Seconds between two words about how far a frame is.
_EVERY = 0.5


class SimulatedArgs(Args):
    """What is to be played."""

    seconds: float = Field(default=0.0, ge=0, le=86_400, description="per frame")
    startup: float = Field(default=0.0, ge=0, le=3600, description="seconds until the first frame begins")
    jitter: float = Field(default=0.0, ge=0, le=1, description="share by which a frame's time varies")
    image: bool = Field(default=False, description="write and send images; otherwise frames are only told")
    fail: dict[int, Misfortune] = Field(default_factory=dict, description="frame → what goes wrong")
    seed: int = 0


class Simulated:
    """Plays the work in the node's own process."""

    name: ClassVar[str] = "simulated"
    args: ClassVar[type[Args]] = SimulatedArgs

    def programs(self, work: Work) -> Sequence[Simulation]:
        """Return one simulation of everything."""
        args = work.args
        if not isinstance(args, SimulatedArgs):
            raise BadRequest("simulated got the arguments of another engine")
        frames: Sequence[int | None] = work.frames or (None,)
        bad = next((frame for frame in frames if frame is not None and frame in args.fail), None)
        what = None if bad is None else args.fail[bad]
        played = frames if bad is None else frames[: list(frames).index(bad) + 1]
        return [
            Simulation(
                saves={frame: work.target(frame) for frame in frames} if args.image else {},
                steps=list(_steps(work, args, played, what)),
                makes=(lambda path: _make(path, work, what, bad)) if args.image else None,
                ends=_END.get(what) if what else None,
            )
        ]


_END: dict[Misfortune, Trouble] = {
    "node": Trouble("node", "simulated", "the node fails, as it was asked to"),
    "job": Trouble("job", "simulated", "the job fails, as it was asked to"),
    "licence": Trouble("licence", "licence", "no licence is free, as it was asked"),
    "crash": Trouble("node", "crashed", "the renderer was killed by signal 11"),
}


def _steps(
    work: Work, args: SimulatedArgs, frames: Sequence[int | None], what: Misfortune | None
) -> Iterator[tuple[float, Heard]]:
    dice = random.Random(args.seed)  # noqa: S311 - nothing secret
    wait = args.startup
    for frame in frames:
        yield wait, Begun(frame)
        seconds = args.seconds * (1 + args.jitter * (2 * dice.random() - 1))
        parts = max(1, math.ceil(seconds / _EVERY))
        for part in range(1, parts):
            yield seconds / parts, Progressed(part / parts)
        wait = seconds / parts
        if what in {"hang", "crash", "node", "job", "licence"} and frame == frames[-1]:
            yield (math.inf if what == "hang" else wait), Progressed(1.0)
            return
        yield wait, Saved(work.target(frame))
        wait = 0.0


def _make(path: Path, work: Work, what: Misfortune | None, bad: int | None) -> None:
    wrong = what if bad is not None and path == work.target(bad) else None
    width, height = work.output.width or 16, work.output.height or 16
    if wrong == "no_file":
        return
    image = png(width + (wrong == "wrong_size"), height, seed=zlib.crc32(path.name.encode()))
    path.write_bytes(image[: len(image) // 2] if wrong == "garbage" else image)


def png(width: int, height: int, *, seed: int = 0) -> bytes:
    """Return an image of one colour that the seed chooses (PNG specification, sections 5 and 11)."""
    colour = struct.pack(">I", seed)[1:]
    rows = (b"\0" + colour * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body
