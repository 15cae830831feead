"""Images to write: ``.img``, ``.img.xz`` and ``.zip``, read as one stream of bytes, and checked against a SHA-256."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import lzma
import re
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

from callboard_core.errors import BadRequest, Failed

__all__ = ["Image", "Readable", "check_sum", "checksum_beside", "find_image", "opened"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
#: What zipfile reads: a flag of an archive's members that it does not, and the ways of packing that it does.
_ENCRYPTED = 1
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
#: Bytes that a pipe holds: the largest that a user may ask Linux for.
_PIPE = 1 << 20


@dataclass(frozen=True)
class Image:
    """An image file.

    Attributes:
        path: the file.
        kind: how it is packed.
        size: bytes of the image once unpacked; None when that is only known at its end.
    """

    path: Path
    kind: Literal["img", "xz", "zip"]
    size: int | None


class Readable(Protocol):
    """A stream of an image's bytes."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill a part of the buffer; 0 at the end."""


def find_image(path: Path) -> Image:
    """Look at an image file.

    Raises:
        BadRequest: there is none, or it is of another kind.
    """
    if not path.is_file():
        raise BadRequest(f"there is no image {path}; name a file that ends in .img, .img.xz or .zip")
    match path.suffix.lower():
        case ".img" | ".raw":
            return Image(path, "img", path.stat().st_size)
        case ".xz":
            return Image(path, "xz", _xz_size(path))
        case ".zip":
            return Image(path, "zip", _member(path).file_size)
    raise BadRequest(f"{path} is no image: its name ends in neither .img, .img.xz nor .zip; unpack it first")


def _xz_size(path: Path) -> int | None:
    with path.open("rb") as handle:
        if handle.read(6) != b"\xfd7zXZ\x00":
            raise BadRequest(f"{path} is not an xz archive; download it again")
    if shutil.which("xz") is None:
        return None
    done = subprocess.run(["xz", "--robot", "--list", str(path)], capture_output=True, text=True, check=False)
    totals = re.search(r"^totals\t\d+\t\d+\t\d+\t(\d+)", done.stdout, re.MULTILINE)
    if done.returncode or totals is None:
        raise BadRequest(f"{path} is cut or damaged ({done.stderr.strip()}); download it again")
    return int(totals[1])


def _member(path: Path) -> zipfile.ZipInfo:
    try:
        with zipfile.ZipFile(path) as archive:
            images = [info for info in archive.infolist() if info.filename.lower().endswith(".img")]
    except zipfile.BadZipFile as error:
        raise BadRequest(f"{path} is cut or damaged ({error}); download it again") from None
    if len(images) != 1:
        raise BadRequest(f"{path} holds {len(images)} images; unpack it, and name one that ends in .img")
    if images[0].flag_bits & _ENCRYPTED or images[0].compress_type not in _METHODS:
        raise BadRequest(
            f"{path} has a password, or is packed in an uncommon way; unpack it, and name the .img in it"
        )
    return images[0]


@contextlib.contextmanager
def opened(image: Image) -> Iterator[Readable]:
    """Open an image's stream of bytes.

    Raises:
        Failed: it is cut or damaged; raised while reading or at the end.
    """
    try:
        if image.kind == "xz" and shutil.which("xz") is not None:
            with _unpacking(image.path) as stream:
                yield stream
        else:
            with _open(image) as stream:
                yield stream
    except (lzma.LZMAError, zlib.error, zipfile.BadZipFile, EOFError) as error:
        raise Failed(f"{image.path} is cut or damaged ({error}); download it again") from None


@contextlib.contextmanager
def _open(image: Image) -> Iterator[Readable]:
    if image.kind == "zip":
        with zipfile.ZipFile(image.path) as archive, archive.open(_member(image.path)) as member:
            yield cast("Readable", member)
    elif image.kind == "xz":
        with lzma.open(image.path) as stream:
            yield stream
    else:
        with image.path.open("rb", buffering=0) as file:
            yield file


@contextlib.contextmanager
def _unpacking(path: Path) -> Iterator[Readable]:
    """The ``xz`` program, which takes several processors where the archive allows, and runs beside us anyway."""
    with subprocess.Popen(
        ["xz", "--decompress", "--stdout", "--threads=0", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        # Ctrl-C is for us; it ends when we do not read any more.
        process_group=0,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - asked for
        assert process.stderr is not None  # noqa: S101
        with contextlib.suppress(OSError):
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE)
        try:
            yield cast("Readable", process.stdout)
        except BaseException:
            process.kill()
            raise
        if process.stdout.read(1):
            process.kill()  # its reader has had enough
            return
        said = process.stderr.read().decode(errors="replace").strip()
        if process.wait():
            raise Failed(f"{path} is cut or damaged ({said}); download it again")


def checksum_beside(path: Path) -> str | None:
    """Return the SHA-256 in the file ``NAME.sha256`` beside an image, as ``sha256sum`` writes it; None when there is none.

    Raises:
        BadRequest: that file holds no SHA-256.
    """
    beside = path.with_name(f"{path.name}.sha256")
    if not beside.is_file():
        return None
    first = beside.read_text(encoding="utf-8", errors="replace").split()[:1]
    if not first or not _SHA256.fullmatch(first[0].lower()):
        raise BadRequest(f"{beside} holds no SHA-256; download it again or remove it")
    return first[0].lower()


def check_sum(image: Image, expected: str) -> None:
    """Check the image file, packed as it is, as publishers of images state their sums.

    Raises:
        BadRequest: the sum is none, or the file has another one.
    """
    wanted = expected.strip().lower()
    if not _SHA256.fullmatch(wanted):
        raise BadRequest(f"--sha256 {expected}: a SHA-256 has 64 hexadecimal digits; copy it again")
    with image.path.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found != wanted:
        raise BadRequest(f"{image.path} has the SHA-256 {found}, not {wanted}; download it again")
