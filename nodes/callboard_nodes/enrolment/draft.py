"""What a machine keeps while it joins: its key, and the ticket with which it waits. Gone once it has joined."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import Field

from callboard_core.errors import BadRequest
from callboard_core.messages import Payload, parse
from callboard_core.runtime import write_private
from callboard_core.trust import JoinCode

__all__ = ["Draft", "Drafts"]


class Draft(Payload):
    """A request that the board has not granted yet."""

    key: str = Field(repr=False)
    ticket: str = Field(default="", repr=False)

    @classmethod
    def new(cls) -> Draft:
        """Begin one, with a new key."""
        from callboard_core.trust.keys import new_key  # noqa: PLC0415 - slow to import

        return cls(key=new_key())

    def waiting(self, ticket: str) -> Draft:
        """Return the same, waiting with a ticket."""
        return self.model_copy(update={"ticket": ticket})

    def request(self, name: str) -> str:
        """Return the request to certify the key."""
        from callboard_core.trust.keys import signing_request  # noqa: PLC0415 - slow to import

        return signing_request(self.key, name)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key (its SubjectPublicKeyInfo, DER), as the board shows it."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

        from callboard_core.trust.keys import read_key  # noqa: PLC0415 - slow to import

        public = read_key(self.key).public_key()
        return hashlib.sha256(
            public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).hexdigest()


class Drafts:
    """Where the draft of a join code is kept; that of another code counts for nothing.

    Args:
        state: the node's state folder.
        code: the join code.
    """

    def __init__(self, state: Path, code: JoinCode) -> None:
        self._state = state
        self._mark = hashlib.sha256(code.text.encode()).hexdigest()[:16]

    @property
    def _path(self) -> Path:
        return self._state / f"joining-{self._mark}.json"

    def read(self) -> Draft | None:
        """Return the draft that an earlier process left."""
        try:
            return parse(Draft, self._path.read_bytes())
        except (FileNotFoundError, BadRequest):
            return None

    def write(self, draft: Draft) -> Draft:
        """Keep it, readable for this user only."""
        self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._path, draft.model_dump_json())
        return draft

    def remove(self) -> None:
        """Forget all drafts: the machine has joined."""
        for found in self._state.glob("joining-*.json"):
            found.unlink(missing_ok=True)
