"""Runs inside Blender, kept warm: renders the frames it is asked for, line by line, until its input ends."""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import bpy

sys.path.insert(0, str(Path(__file__).parent))
from blender_setup import apply, pixels, say


def render(scene: Any, frame: int, path: str) -> None:
    """Render one frame to a file."""
    say(begun=frame)
    scene.frame_set(frame)
    scene.render.filepath = path
    scene.render.use_file_extension = False
    bpy.ops.render.render(write_still=True, scene=scene.name)
    say(saved=path)


def serve() -> None:
    """Take requests."""
    for line in sys.stdin:
        request = json.loads(line)
        scene = apply(request["settings"])
        if size := pixels(scene.render):
            say(size=size)
        for frame, path in request["frames"]:
            render(scene, frame, path)
        say(finished=True)


try:
    serve()
except BaseException as error:  # noqa: BLE001 - whatever it is, the node must hear of it
    traceback.print_exc()
    say(trouble=f"{type(error).__name__}: {error}")
    sys.stdout.flush()
    os._exit(9)
sys.stdout.flush()
# With a render handler installed, Blender 4.5 hangs when the interpreter is ended in order.
os._exit(0)
