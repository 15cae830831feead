"""Files that renderers made: checked, put into a shared folder if that was asked for, and laid out to be sent."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from callboard_nodes.slots import images
from callboard_nodes.slots.engines.base import Trouble
from callboard_nodes.slots.troubles import NO_ROOM, Broken

__all__ = ["Accepted", "accept", "share"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A file that counts: where it lies now, below the attempt's folder, and its size in pixels if it is an image."""

    file: str
    thumbnail: str | None
    size: tuple[int, int] | None


def accept(path: Path, folder: Path, name: str, size: tuple[int | None, int | None]) -> Accepted:
    """Check a file and move it out of the renderer's reach. Waits.

    Args:
        path: what the renderer made.
        folder: the attempt's.
        name: what it is to be called.
        size: width and height it must have, in pixels; None: any.

    Raises:
        Broken: it is not there, not whole, or of another size.
        OSError: the disk refuses.
    """
    try:
        checked = images.check(path, width=size[0], height=size[1])
    except FileNotFoundError:
        message = f"{path.name} was said to be saved and is not there"
        raise Broken(Trouble("job", "no_output", message)) from None
    except images.WrongSize as error:
        raise Broken(Trouble("job", "wrong_size", error.message)) from None
    except images.NoDecoder as error:
        raise Broken(Trouble("node", "no_decoder", error.message)) from None
    except images.BadImage as error:
        raise Broken(Trouble("node", "bad_output", error.message)) from None
    ready = folder / "ready" / name
    ready.parent.mkdir(parents=True, exist_ok=True)
    path.replace(ready)
    thumbnail = None
    if checked.thumbnail is not None:
        thumbnail = f"ready/{name}.thumbnail.jpg"
        (folder / thumbnail).write_bytes(checked.thumbnail)
    return Accepted(f"ready/{name}", thumbnail, checked.size)


def share(file: Path, into: Path, name: str, attempt: str) -> None:
    """Put a copy into a shared folder, under its name only when it is whole.

    Raises:
        Broken: the folder cannot be written.
    """
    place = into / name
    fresh = place.with_name(f".{place.name}.{attempt}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as source, fresh.open("wb") as target:
            shutil.copyfileobj(source, target, 1024 * 1024)
            target.flush()
            os.fsync(target.fileno())
        fresh.replace(place)
    except OSError as error:
        with contextlib.suppress(OSError):  # where nothing can be written, nothing is to be removed
            fresh.unlink()
        code = "disk_full" if error.errno in NO_ROOM else "unwritable"
        raise Broken(Trouble("node", code, f"{into} cannot be written: {error.strerror}")) from None
