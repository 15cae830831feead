"""Runs inside Blender, before the frames: applies what the assignment says to the scene. Knows nothing of ours."""

import json
import sys
from typing import Any

import bpy

MARK = "CALLBOARD "


def say(**what: Any) -> None:
    """Tell the node something; a line of its own, since Blender's own output is buffered elsewhere."""
    sys.stdout.write(f"\n{MARK}{json.dumps(what)}\n")
    sys.stdout.flush()


def chosen(collection: Any, name: str, what: str) -> Any:
    """Return a scene or an object by name; the message of what is raised is what people read."""
    if name not in collection:
        raise ValueError(f"there is no {what} {name!r} in the file")
    return collection[name]


def apply(given: dict[str, Any]) -> Any:
    """Set the scene up and return it."""
    scene = bpy.context.scene
    if "scene" in given:
        scene = chosen(bpy.data.scenes, given["scene"], "scene")
        bpy.context.window.scene = scene
    if "camera" in given:
        scene.camera = chosen(bpy.data.objects, given["camera"], "camera")
    if "renderer" in given:
        scene.render.engine = given["renderer"]
    apply_size(scene.render, given)
    apply_format(scene.render, given)
    apply_cycles(scene, given)
    # Frames are written to an empty folder; placeholders would look like results there.
    scene.render.use_overwrite, scene.render.use_placeholder = True, False
    return scene


def apply_size(render: Any, given: dict[str, Any]) -> None:
    """Set the size, the share of it, and the border."""
    if given.get("width") or given.get("height"):
        render.resolution_x = given.get("width") or render.resolution_x
        render.resolution_y = given.get("height") or render.resolution_y
        render.resolution_percentage = 100
    if "percentage" in given:
        render.resolution_percentage = given["percentage"]
    if "border" in given:
        render.border_min_x, render.border_min_y, render.border_max_x, render.border_max_y = given["border"]
        render.use_border, render.use_crop_to_border = True, given.get("crop", True)


def apply_format(render: Any, given: dict[str, Any]) -> None:
    """Set the file format and what it takes."""
    if "format" not in given:
        return
    if hasattr(render.image_settings, "media_type"):  # Blender 5.0 tells images from videos first
        multilayer = given["format"] == "OPEN_EXR_MULTILAYER"
        render.image_settings.media_type = "MULTI_LAYER_IMAGE" if multilayer else "IMAGE"
    render.image_settings.file_format = given["format"]
    for key, value in given.get("encoder", {}).items():
        if key not in {"quality", "compression", "color_mode", "color_depth", "exr_codec", "tiff_codec"}:
            raise ValueError(f"output.encoder: {key!r} is unknown")
        setattr(render.image_settings, key, value)


def apply_cycles(scene: Any, given: dict[str, Any]) -> None:
    """Set samples, seed and device."""
    if "samples" in given:
        scene.cycles.samples = given["samples"]
        if hasattr(scene, "eevee"):
            scene.eevee.taa_render_samples = given["samples"]
    if "seed" in given:
        scene.cycles.seed = given["seed"]
    device = given.get("device")
    if device is None:
        return
    scene.cycles.device = "CPU" if device == "CPU" else "GPU"
    if device != "CPU":
        preferences = bpy.context.preferences.addons["cycles"].preferences
        preferences.compute_device_type = device
        preferences.get_devices()
        for one in preferences.devices:
            one.use = one.type == device


def pixels(render: Any) -> list[int] | None:
    """The size of the images to come; None where only Blender's own rounding knows."""
    if render.use_border and render.use_crop_to_border:
        return None
    share = render.resolution_percentage / 100
    return [int(render.resolution_x * share), int(render.resolution_y * share)]


def bake(path: str) -> None:
    """Bake all physics and keep it in a copy of the file."""
    say(begun=None)
    bpy.ops.ptcache.free_bake_all()
    bpy.ops.ptcache.bake_all(bake=True)
    bpy.ops.wm.save_as_mainfile(filepath=path, copy=True, compress=True)
    say(saved=path)


if __name__ == "__main__":
    settings = json.loads(sys.argv[sys.argv.index("--") + 1])
    render = apply(settings).render
    if "bake" in settings:
        bake(settings["bake"])
    elif size := pixels(render):
        say(size=size)
