"""Everything the farm knows, found by id and name."""

from __future__ import annotations

from collections.abc import Iterable

from callboard_broker.services.farm.model import Attempt, Job, Place, Slot, SlotKey
from callboard_core.errors import NotFound

__all__ = ["Book"]


class Book:
    """Everything the farm knows."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.slots: dict[SlotKey, Slot] = {}
        self.places: dict[int, Place] = {}
        self.attempts: dict[str, Attempt] = {}
        self.by_node: dict[str, dict[str, Slot]] = {}

    def job(self, job_id: int | str) -> Job:
        """Return a job.

        Raises:
            NotFound: there is none.
        """
        number = int(job_id) if str(job_id).isdecimal() else None
        found = self.jobs.get(number) if number is not None else None
        if found is None:
            raise NotFound(f"there is no job {job_id}; `callboard job ls` shows all")
        return found

    def slot(self, key: SlotKey) -> Slot:
        """Return a slot.

        Raises:
            NotFound: there is none.
        """
        found = self.slots.get(key)
        if found is None:
            raise NotFound(f"there is no slot {key[0]}/{key[1]}; `callboard farm ls` shows all")
        return found

    def add_slot(self, slot: Slot) -> None:
        """Note a new slot."""
        self.slots[slot.key] = slot
        self.by_node.setdefault(slot.node, {})[slot.name] = slot

    def remove_slot(self, key: SlotKey) -> None:
        """Forget a slot."""
        self.slots.pop(key, None)
        self.by_node.get(key[0], {}).pop(key[1], None)

    def on(self, node: str) -> Iterable[Slot]:
        """Return a node's slots."""
        return list(self.by_node.get(node, {}).values())
