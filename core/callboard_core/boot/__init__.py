"""What the boot partition of a card must hold so that its machine becomes a node by itself. Pure: from a config to files.

``boot_files`` is all that others need; ``boot_zip`` is the same as an archive to unpack onto a card.
"""

from callboard_core.boot.archive import boot_zip
from callboard_core.boot.config import Bus, CardConfig, Wifi, psk
from callboard_core.boot.files import Format, boot_files, detect_format

__all__ = ["Bus", "CardConfig", "Format", "Wifi", "boot_files", "boot_zip", "detect_format", "psk"]
