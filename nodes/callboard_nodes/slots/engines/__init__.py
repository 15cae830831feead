"""The engines by name, one file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from callboard_nodes.slots.engines.base import Engine
from callboard_nodes.slots.engines.blender import Blender
from callboard_nodes.slots.engines.blender_persistent import BlenderPersistent
from callboard_nodes.slots.engines.command import Command, Template
from callboard_nodes.slots.engines.ffmpeg import Ffmpeg
from callboard_nodes.slots.engines.povray import Povray
from callboard_nodes.slots.engines.simulated import Simulated

__all__ = ["make"]

_MAKERS: Mapping[str, Callable[[], Engine]] = {
    one.name: one for one in (Blender, BlenderPersistent, Povray, Ffmpeg, Simulated)
}


def make(name: str, templates: Mapping[str, Template]) -> Engine:
    """Return an engine; ``templates`` are what ``command`` may run."""
    return Command(templates) if name == Command.name else _MAKERS[name]()
