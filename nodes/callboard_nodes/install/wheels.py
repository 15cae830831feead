"""Wheels of what runs here, by which a node is installed for good; the console makes them as well, see ``core``."""

from callboard_core.wheels import NAME, PACKAGES, closure, gather, pack, write_wheel

__all__ = ["NAME", "PACKAGES", "closure", "gather", "pack", "write_wheel"]
