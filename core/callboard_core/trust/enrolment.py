"""What a node and a board tell each other while the node enrols, as JSON over HTTPS."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from callboard_core.errors import BadPayload, BadRequest
from callboard_core.messages import Payload
from callboard_core.topics import ID_PATTERN, check_id

__all__ = [
    "LONGEST",
    "Action",
    "BoardFacts",
    "Decision",
    "Enrol",
    "Enrolled",
    "EnrolmentState",
    "EnrolmentView",
    "Join",
    "JoinView",
    "MadeJoin",
    "Pending",
    "Reach",
    "Renew",
    "Renewed",
]

#: Seconds for which a join code can be good.
LONGEST = 366 * 86_400


def _id(value: str) -> str:
    try:
        return check_id(value)
    except BadRequest as error:
        raise BadPayload(error.message, key="id") from None


NodeId = Annotated[str, AfterValidator(_id), Field(json_schema_extra={"pattern": f"^{ID_PATTERN}$"})]
_Request = Annotated[str, Field(max_length=16_384, description="PKCS 10, PEM")]
_Port = Annotated[int, Field(ge=1, le=65_535)]


class Reach(Payload):
    """Where the encrypted listeners of a board are, on the host that tells this."""

    site: NodeId
    mqtt_port: _Port | None = Field(description="MQTT over TLS; null where the broker is not the board's own")
    http_port: _Port = Field(description="HTTPS")


class EnrolmentState(StrEnum):
    """What became of somebody who asked to be let in."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    REVOKED = "revoked"


class Enrol(Payload):
    """A node asks to be let in."""

    token: str = Field(min_length=1, max_length=100, repr=False, description="from the join code")
    id: NodeId = Field(description="the id it wants")
    csr: _Request
    label: str | None = Field(default=None, max_length=200)
    host: str | None = Field(default=None, max_length=200, description="what the machine calls itself")


class BoardFacts(Payload):
    """What a machine must know of the board."""

    bundle: str = Field(
        description="the authorities to trust from now on, PEM; the one that signs comes first"
    )
    update_key: str = Field(description="Ed25519, base64: signs updates")
    mqtt_port: _Port = Field(description="MQTT over TLS")
    http_port: _Port = Field(description="HTTPS")
    addresses: list[str] = Field(description="host:HTTPS port, the best first")


class Enrolled(BoardFacts):
    """It is let in: its credential."""

    state: Literal["accepted"] = "accepted"
    site: str
    id: str
    certificate: str = Field(description="the node's own, PEM")
    password: str = Field(
        repr=False, description="for HTTP, and for MQTT clients that cannot show a certificate"
    )


class Pending(Payload):
    """It has to wait until an operator says yes; ask again with the ticket."""

    state: Literal["pending"] = "pending"
    ticket: str = Field(repr=False)
    poll: float = Field(default=2.0, gt=0, description="seconds to wait before asking again")


class Renew(Payload):
    """A node asks for a new certificate."""

    csr: _Request


class Renewed(BoardFacts):
    """The new certificate; the old one is worthless from now on."""

    certificate: str


class Join(Payload):
    """An operator asks for a join code."""

    uses: int = Field(default=1, ge=1, le=10_000, description="machines it lets in")
    seconds: float = Field(default=3_600, gt=0, le=LONGEST, description="how long it is good for")
    id: NodeId | None = Field(default=None, description="lets in only this id, even if it is known already")
    ask: bool = Field(default=False, description="whether an operator must say yes to each machine")


class JoinView(Payload):
    """A join code as it is listed; the code itself is only shown once."""

    name: str = Field(description="names it in lists; no secret")
    uses: int = Field(description="machines it may let in")
    used: int
    id: str | None = None
    ask: bool
    made: float
    expires: float
    by: str = Field(description="who made it")


class MadeJoin(JoinView):
    """A new join code."""

    code: str = Field(repr=False)

    @property
    def command(self) -> str:
        """What to type on the machine that is to join."""
        return f"callboard node{self._words}"

    @property
    def service(self) -> str:
        """What to type there to have it join, and run at every start from then on; sudo finds no programs in a home."""
        return f"sudo $(command -v callboard) node --install{self._words}"

    @property
    def _words(self) -> str:
        who = f" --id {self.id}" if self.id else ""
        return f"{who} --join {self.code}"


class EnrolmentView(Payload):
    """Somebody who asked to be let in."""

    number: int = Field(description="names it in lists")
    id: str
    state: EnrolmentState
    reason: str = Field(description="why it has to wait, or who decided")
    label: str | None = None
    host: str | None = None
    address: str = Field(description="where it asked from")
    fingerprint: str = Field(description="SHA-256 of its public key, to be compared with what the node shows")
    asked: float
    decided: float | None = None
    by: str | None = None


class Action(StrEnum):
    """What an operator can do about somebody who asked."""

    ACCEPT = "accept"
    REJECT = "reject"
    REVOKE = "revoke"


class Decision(Payload):
    """An operator's word: on somebody who waits, or ``revoke`` for one who was let in."""

    action: Action
