"""Whether a file that a renderer left is the image it should be: read whole, and as large as expected.

Pillow decodes what it knows. OpenEXR it does not: there the header, the table of chunks and the compressed data are
checked here, and ffmpeg makes the thumbnail where it is installed. Everything else has to be there and not empty.
"""

from __future__ import annotations

import importlib.util
import io
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from callboard_core.errors import CallboardError
from callboard_nodes.slots import exr

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "THUMBNAIL",
    "BadImage",
    "Checked",
    "NoDecoder",
    "WrongSize",
    "can_decode",
    "check",
    "content_type",
]

#: Longest side of a thumbnail, in pixels.
THUMBNAIL = 320
#: Seconds ffmpeg has for a thumbnail.
_PATIENCE = 10.0
#: More pixels than any render has; a header that claims more is damaged.
_MOST_PIXELS = 2**30

_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".exr": "image/x-exr",
    ".bmp": "image/bmp",
    ".tga": "image/x-tga",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".blend": "application/x-blender",
}
_PILLOW = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".tga", ".webp"})


class BadImage(CallboardError):
    """The file cannot be decoded."""


class WrongSize(BadImage):
    """The file is an image of another size."""


class NoDecoder(CallboardError):
    """What is needed to decode the file is not installed."""


def can_decode() -> bool:
    """Tell whether images can be checked on this machine."""
    return importlib.util.find_spec("PIL") is not None


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that is what it should be; ``size`` is in pixels, ``thumbnail`` a small JPEG."""

    size: tuple[int, int] | None = None
    thumbnail: bytes | None = None


def content_type(name: str) -> str:
    """Return what a file holds, by its name."""
    return _TYPES.get(Path(name).suffix.lower(), "application/octet-stream")


def check(path: Path, *, width: int | None = None, height: int | None = None) -> Checked:
    """Read a file whole.

    Args:
        path: the file; its suffix says what it should be.
        width: expected, in pixels.
        height: expected, in pixels.

    Raises:
        WrongSize: it has another size.
        BadImage: it is empty, or cannot be decoded to the end.
        NoDecoder: Pillow is not installed.
        OSError: it cannot be read.
    """
    if path.stat().st_size == 0:
        raise BadImage(f"{path.name} is empty")
    suffix = path.suffix.lower()
    if suffix == ".exr":
        try:
            size = exr.check(path)
        except exr.BadExr as error:
            raise BadImage(error.message) from None
        _compare(path, size, width, height)
        return Checked(size, _thumbnail_of_exr(path))
    if suffix in _PILLOW:
        return _decode(path, width, height)
    return Checked()


def _decode(path: Path, width: int | None, height: int | None) -> Checked:
    try:
        from PIL import Image  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise NoDecoder("images cannot be checked without Pillow: pip install 'callboard[farm]'") from None

    Image.MAX_IMAGE_PIXELS = None  # large images are our trade; the limit is ours
    try:
        with Image.open(path) as image:
            _compare(path, image.size, width, height)
            image.load()
            return Checked(image.size, thumbnail(image))
    except (OSError, SyntaxError, ValueError, EOFError, Warning) as error:
        raise BadImage(f"{path.name} cannot be decoded: {error}") from None


def _thumbnail_of_exr(path: Path) -> bytes | None:
    """Have ffmpeg make a thumbnail, if it is there; what it cannot read, as some layers, has none."""
    program = shutil.which("ffmpeg")
    if program is None:
        return None
    argv = [
        program,
        "-v",
        "error",
        "-nostdin",
        "-threads",
        "1",
        "-apply_trc",
        "iec61966_2_1",
        "-i",
        str(path),
    ]
    argv += ["-frames:v", "1", "-vf", f"scale='min({THUMBNAIL},iw)':-1", "-f", "mjpeg", "pipe:1"]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 and done.stdout else None


def _compare(path: Path, size: tuple[int, int], width: int | None, height: int | None) -> None:
    wanted = (width or size[0], height or size[1])
    if size != wanted:
        raise WrongSize(f"{path.name} has {size[0]}x{size[1]} pixels, not {wanted[0]}x{wanted[1]}")
    if size[0] * size[1] > _MOST_PIXELS:
        raise BadImage(f"{path.name} claims to have {size[0]}x{size[1]} pixels")


def thumbnail(image: Image) -> bytes:
    """Return a small JPEG of an image, on black where it is transparent."""
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits a pixel, or more
        image = image.convert("F").point(lambda level: level / 256).convert("L")
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    out = io.BytesIO()
    small.convert("RGB").save(out, "JPEG", quality=75)
    return out.getvalue()
