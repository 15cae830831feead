"""Backups of a board: one zip file with a manifest, made while the board runs, and restored on any host."""

from callboard_broker.backup.making import back_up
from callboard_broker.backup.restoring import Restored, restore

__all__ = ["Restored", "back_up", "restore"]
