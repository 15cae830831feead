"""All files of a boot partition: a format's own, the shared folder, and edits of what is there already. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from callboard_core.boot import cloudinit, firstrun, setup
from callboard_core.boot.config import CardConfig
from callboard_core.boot.edits import edit_cmdline, edit_config
from callboard_core.errors import BadRequest

__all__ = ["EDITED", "Format", "boot_files", "detect_format"]

Format = Literal["cloudinit", "firstrun"]
#: Files that are edited; what is in them must be handed to :func:`boot_files`.
EDITED = ("cmdline.txt", "config.txt")
_FORMATS = {"cloudinit": cloudinit, "firstrun": firstrun}


def boot_files(
    config: CardConfig, form: Format = "cloudinit", found: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """Return what to write onto a boot partition, by path; the wheels of ``callboard/wheels`` come on top.

    Args:
        config: the machine that is wanted.
        form: how its system is told at its first boot.
        found: what ``cmdline.txt`` and ``config.txt`` hold now; those that are missing are not in the result.
    """
    chosen, found = _FORMATS[form], found or {}
    files = {**chosen.files(config), **setup.files(config)}
    if "cmdline.txt" in found:
        files["cmdline.txt"] = _bytes(edit_cmdline(_text(found["cmdline.txt"]), chosen.cmdline_words(config)))
    if "config.txt" in found:
        files["config.txt"] = _bytes(edit_config(_text(found["config.txt"]), config.buses))
    return files


def detect_format(names: Iterable[str]) -> Format:
    """Tell the format that a boot partition's system understands, from the names in its top folder.

    Raises:
        BadRequest: it is no boot partition of a system that is known here.
    """
    lower = {name.lower() for name in names}
    if {"meta-data", "user-data"} & lower:
        return "cloudinit"
    if "cmdline.txt" in lower and {"bootcode.bin", "start4.elf", "kernel8.img", "config.txt"} & lower:
        return "firstrun"
    raise BadRequest(
        "this is no boot partition of Raspberry Pi OS: neither user-data nor cmdline.txt with config.txt is in it; "
        "take another image, or say how it is set up with --format"
    )


def _text(content: bytes) -> str:
    # Whatever an editor left there comes back byte for byte.
    return content.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
