"""Blender, kept warm: one process opens the file once and takes frames one by one on its standard input."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from callboard_core.errors import BadRequest
from callboard_nodes.slots.engines.base import Args, Program, Work
from callboard_nodes.slots.engines.blender import (
    NOISE,
    Blender,
    BlenderArgs,
    _args,
    reader,
    settings_of,
    start,
)

__all__ = ["BlenderPersistent"]

SERVER = Path(__file__).with_name("blender_server.py")


class BlenderPersistent:
    """One process for all assignments that open the same file with the same arguments."""

    name: ClassVar[str] = "blender-persistent"
    args: ClassVar[type[Args]] = BlenderArgs

    def programs(self, work: Work) -> Sequence[Program]:
        """Return a program that is started only if none is warm."""
        args = _args(work)
        if args.op != "render":
            return Blender().programs(work)
        if not work.frames:
            raise BadRequest("frames: missing; there is nothing to render")
        settings = settings_of(work, args)
        argv = (*start(work, args), "--python", str(SERVER))
        request = {"settings": settings, "frames": [[one, str(work.target(one))] for one in work.frames]}
        return [
            Program(
                argv=argv,
                reader=reader(args),
                saves={frame: work.target(frame) for frame in work.frames},
                warm=_key(argv, settings),
                request=json.dumps(request),
                noise=NOISE,
            )
        ]


def _key(argv: Sequence[str], settings: dict[str, Any]) -> str:
    """What must be equal for a warm process to be taken: the path of the file holds the hash of all inputs."""
    return hashlib.sha256(json.dumps([*argv, settings], sort_keys=True).encode()).hexdigest()
