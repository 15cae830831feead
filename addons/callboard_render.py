"""Blender add-on: sends the open .blend to a Callboard board and submits a render job. One file, nothing to install.

In Blender: Edit > Preferences > Add-ons > Install, choose this file, tick it, and fill in the board's address and a user
with the role operator. The panel is in the render properties.

From a shell, for scripts and farms without a window:

    blender --background shot.blend --python callboard_render.py -- --board http://board:8470 --user operator \
        --password-file operator.password --frames 1-240 --project Dune
"""

import argparse
import base64
import hashlib
import json
import os
import sys
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request

import bpy

bl_info = {
    "name": "Callboard render",
    "description": "Submit the open file to a Callboard render farm",
    "author": "the Callboard contributors",
    "version": (0, 1, 0),
    "blender": (2, 93, 0),
    "location": "Properties > Render > Callboard",
    "category": "Render",
}

#: Bytes read at a time, and seconds the board has to answer.
BLOCK = 1024 * 1024
TIMEOUT = 60

# The board is reached directly; a proxy for the internet must not see its passwords.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Refused(Exception):
    """The board has refused something, or cannot be reached; the message says why."""


class Board:
    """The board's HTTP API on behalf of one user."""

    def __init__(self, url, user, password):
        self.url = url.rstrip("/")
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {secret}"}

    def _open(self, method, path, body=None, headers=None):
        given = {**self._headers, **(headers or {})}
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=given)
        try:
            return _OPENER.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError:
            raise
        except (OSError, ValueError) as error:
            raise Refused(f"{self.url} does not answer: {getattr(error, 'reason', error)}") from None

    def submit(self, job):
        """Make a job; returns what the board tells of it."""
        body = json.dumps(job).encode()
        try:
            with self._open("POST", "/api/v1/jobs", body, {"Content-Type": "application/json"}) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise _refused(error) from None

    def send(self, path, progress=lambda share: None):
        """Store a file, unless the board has it; goes on where an earlier try was cut. Returns its reference."""
        size, sha256 = os.path.getsize(path), _hash(path)
        where = f"/api/v1/artifacts/{sha256}"
        offset = self._offset(where, size)
        if offset is not None:
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(size - offset),
                "Upload-Offset": str(offset),
                "Upload-Length": str(size),
            }
            try:
                with self._open("PUT", where, _blocks(path, offset, size, progress), headers) as answer:
                    answer.read()
            except urllib.error.HTTPError as error:
                raise _refused(error) from None
        return {"sha256": sha256, "size": size, "type": "application/octet-stream", "url": where}

    def _offset(self, where, size):
        """From which byte on to send; None when the board has all of it."""
        try:
            with self._open("HEAD", where, headers={"Upload-Length": str(size)}):
                return None
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return int(error.headers.get("Upload-Offset") or 0)
            raise _refused(error) from None


def _refused(error):
    try:
        message = json.load(error)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = {401: "wrong user or password", 403: "this user may not submit jobs"}.get(
            error.code, f"the board answered {error.code}"
        )
    return Refused(message)


def _hash(path):
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            found.update(block)
    return found.hexdigest()


def _blocks(path, offset, size, progress):
    with open(path, "rb") as file:
        file.seek(offset)
        for block in iter(lambda: file.read(BLOCK), b""):
            yield block
            offset += len(block)
            progress(offset / size)


def collect(folder):
    """Save a copy of the open file into ``folder``; returns what has to be sent (name → path) and what cannot be.

    Files below the .blend's own folder are sent under their relative names, so that it finds them on every node.
    """
    name = bpy.path.basename(bpy.data.filepath) or "untitled.blend"
    home = os.path.dirname(bpy.data.filepath)
    copy = os.path.join(folder, name)
    bpy.ops.wm.save_as_mainfile(filepath=copy, copy=True, compress=True, relative_remap=False)
    files, left_out = {name: copy}, []
    for path in bpy.utils.blend_paths(absolute=True, packed=False, local=False):
        inside = os.path.relpath(path, home) if home else os.pardir
        if not os.path.isfile(path) or inside.startswith(os.pardir) or os.path.isabs(inside):
            left_out.append(path)
        else:
            files[inside.replace(os.sep, "/")] = path
    return files, sorted(set(left_out))


def submit(board, files, job, progress=lambda text: None):
    """Send files and make a job; the first file is the one to render."""
    inputs = []
    for name, path in files.items():
        artifact = board.send(path, lambda share, name=name: progress(f"{name}: {share:.0%}"))
        inputs.append({"name": name, "artifact": artifact})
    return board.submit({**job, "inputs": inputs, "main": inputs[0]["name"]})


def job_of(scene, job_type="render", frames="", name="", project="", priority=50, chunk=0):
    """Return a job for a scene; frames are the scene's own when empty."""
    step = f"x{scene.frame_step}" if scene.frame_step > 1 else ""
    settings = {"frames": frames or f"{scene.frame_start}-{scene.frame_end}{step}", "scene": scene.name}
    if chunk:
        settings["chunk"] = chunk
    job = {"type": job_type, "settings": settings, "priority": priority}
    job.update({key: value for key, value in (("name", name), ("project", project)) if value})
    return job


class CallboardPreferences(bpy.types.AddonPreferences):
    bl_idname = __name__

    url: bpy.props.StringProperty(name="Board", default="http://127.0.0.1:8470")
    user: bpy.props.StringProperty(name="User", default="operator")
    password: bpy.props.StringProperty(name="Password", subtype="PASSWORD")

    def draw(self, context):
        for name in ("url", "user", "password"):
            self.layout.prop(self, name)


class CallboardJob(bpy.types.PropertyGroup):
    job_type: bpy.props.EnumProperty(
        name="Type",
        items=[
            ("render", "Frames", "Render frames"),
            ("render-video", "Frames and video", "Render frames, then make a video of them"),
            ("simulate-render", "Simulate, then render", "Bake physics once, then render"),
        ],
    )
    frames: bpy.props.StringProperty(name="Frames", description="1-240 or 3,5-10; empty for the scene's own")
    name: bpy.props.StringProperty(name="Name", description="Empty for the file's name")
    project: bpy.props.StringProperty(name="Project")
    priority: bpy.props.IntProperty(name="Priority", default=50, min=0, max=100)
    chunk: bpy.props.IntProperty(name="Frames a task", min=0, description="0 to fit the measured time")


class CALLBOARD_OT_submit(bpy.types.Operator):
    """Send the open file to the board and submit a render job"""

    bl_idname = "callboard.submit"
    bl_label = "Submit to Callboard"

    def invoke(self, context, event):
        """Saving happens here, sending in a thread, so that Blender stays usable."""
        asked = context.scene.callboard
        preferences = context.preferences.addons[__name__].preferences
        board = Board(preferences.url, preferences.user, preferences.password)
        fields = ("job_type", "frames", "name", "project", "priority", "chunk")
        job = job_of(context.scene, **{field: getattr(asked, field) for field in fields})
        self._folder = tempfile.TemporaryDirectory()
        files, left_out = collect(self._folder.name)
        if left_out:
            self.report({"WARNING"}, f"not sent, pack them: {', '.join(map(bpy.path.basename, left_out))}")
        self._said, self._made, self._error = "sending", None, None
        self._thread = threading.Thread(target=self._work, args=(board, files, job), daemon=True)
        self._thread.start()
        self._timer = context.window_manager.event_timer_add(0.2, window=context.window)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def _work(self, board, files, job):
        try:
            self._made = submit(board, files, job, lambda text: setattr(self, "_said", text))
        except Exception as error:  # shown to the person by modal()
            self._error = f"{error}" or type(error).__name__

    def modal(self, context, event):
        """Show how far it is; report the end."""
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        if self._thread.is_alive():
            context.workspace.status_text_set(f"Callboard: {self._said}")
            return {"PASS_THROUGH"}
        context.window_manager.event_timer_remove(self._timer)
        context.workspace.status_text_set(None)
        self._folder.cleanup()
        if self._error is not None:
            self.report({"ERROR"}, self._error)
            return {"CANCELLED"}
        self.report({"INFO"}, f"Callboard job {self._made['job']}: {self._made['name']}")
        return {"FINISHED"}


class CALLBOARD_PT_render(bpy.types.Panel):
    bl_label = "Callboard"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "render"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout = self.layout
        layout.use_property_split = True
        for name in ("job_type", "frames", "name", "project", "priority", "chunk"):
            layout.prop(context.scene.callboard, name)
        layout.operator("callboard.submit", icon="RENDER_ANIMATION")


_CLASSES = (CallboardPreferences, CallboardJob, CALLBOARD_OT_submit, CALLBOARD_PT_render)


def register():
    """Called by Blender when the add-on is switched on."""
    for one in _CLASSES:
        bpy.utils.register_class(one)
    bpy.types.Scene.callboard = bpy.props.PointerProperty(type=CallboardJob)


def unregister():
    """Called by Blender when the add-on is switched off."""
    del bpy.types.Scene.callboard
    for one in reversed(_CLASSES):
        bpy.utils.unregister_class(one)


def main(argv):
    """Submit the open file from a shell; returns the exit code."""
    parser = argparse.ArgumentParser(prog="callboard_render.py", description="Submit the open .blend.")
    parser.add_argument("--board", required=True, metavar="URL", help="e.g. http://board:8470")
    parser.add_argument("--user", default="operator")
    parser.add_argument("--password-file", required=True, help="its first line is the password")
    parser.add_argument("--type", default="render", dest="job_type")
    parser.add_argument("--frames", default="", help="1-240 or 3,5-10; the scene's own when missing")
    parser.add_argument("--name", default="")
    parser.add_argument("--project", default="")
    parser.add_argument("--priority", type=int, default=50)
    parser.add_argument("--chunk", type=int, default=0, help="frames a task; 0 to fit the measured time")
    given = vars(parser.parse_args(argv))
    with open(given.pop("password_file"), encoding="utf-8") as file:
        password = file.readline().strip()
    board = Board(given.pop("board"), given.pop("user"), password)
    with tempfile.TemporaryDirectory() as folder:
        files, left_out = collect(folder)
        for path in left_out:
            print(f"callboard: not sent, pack it: {path}", file=sys.stderr)
        try:
            made = submit(board, files, job_of(bpy.context.scene, **given))
        except Refused as error:
            print(f"callboard: {error}", file=sys.stderr)
            return 1
    print(f"callboard: job {made['job']}: {made['name']}")
    return 0


if __name__ == "__main__":
    # Blender leaves by itself, and would not tell the exit code.
    sys.stdout.flush()
    code = main(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else [])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
