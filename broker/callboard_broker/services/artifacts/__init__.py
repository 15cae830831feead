"""Artifacts: content that is too large for messages, kept by its SHA-256."""

from callboard_broker.services.artifacts.index import Record
from callboard_broker.services.artifacts.shelf import Artifacts, Limits
from callboard_broker.services.artifacts.upload import Upload

__all__ = ["Artifacts", "Limits", "Record", "Upload"]
