"""Updates of nodes: what is published and signed (``shelf``), whose turn it is (``plan``), and sending it (``service``)."""

from callboard_broker.services.updates.plan import Terms
from callboard_broker.services.updates.service import Update, Updates, Wish
from callboard_broker.services.updates.shelf import Draft, Shelf

__all__ = ["Draft", "Shelf", "Terms", "Update", "Updates", "Wish"]
