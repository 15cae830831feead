"""The boot files as a zip, to unpack onto a card that was written by other means. Pure."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from callboard_core.boot import cloudinit, firstrun
from callboard_core.boot.config import CardConfig
from callboard_core.boot.edits import edit_config
from callboard_core.boot.files import Format, boot_files
from callboard_core.boot.setup import WHEELS

__all__ = ["boot_zip"]

#: The oldest time a zip can tell, so that the same files make the same archive.
_TIME = (1980, 1, 1, 0, 0, 0)

_README = """\
Unpack this archive onto the boot partition (called bootfs) of a card with Raspberry Pi OS {system}, so that the folder
`callboard` lies beside cmdline.txt. Files of the same name are replaced.

Then add to the end of the only line of cmdline.txt, after a space:

{words}
{config}
Put the card into the machine. It is on the board some minutes after it first has power{network}.
"""


def boot_zip(
    config: CardConfig, form: Format = "cloudinit", wheels: Mapping[str, bytes] | None = None
) -> bytes:
    """Return an archive of the boot files, with a README that says how to use it.

    Args:
        config: the machine that is wanted.
        form: how its system is told at its first boot.
        wheels: by file name; see ``callboard_core.wheels.own``.
    """
    chosen = cloudinit if form == "cloudinit" else firstrun
    switched = edit_config("", config.buses)
    readme = _README.format(
        system="Trixie or later" if form == "cloudinit" else "Bookworm",
        words="    " + " ".join(chosen.cmdline_words(config)),
        config=f"\nand to the end of config.txt:\n{switched}" if switched else "",
        network=" and internet, from where it fetches its packages" if config.fetch else "",
    )
    files = {
        **boot_files(config, form),
        **{f"{WHEELS}/{name}": content for name, content in (wheels or {}).items()},
        "callboard/README.txt": readme.replace("\n", "\r\n").encode(),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            stored = name.endswith(".whl")
            method = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name, _TIME), content, method)
    return buffer.getvalue()
