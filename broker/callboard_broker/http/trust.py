"""The board's authority: its certificate, how it is, and its rotation."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from callboard_broker.http.context import Admin, Reader, Use
from callboard_broker.services.enrolment.rotation import Standing
from callboard_core.trust.enrolment import Reach

__all__ = ["router"]

router = APIRouter(prefix="/trust", tags=["trust"])


class Trust(BaseModel):
    """How the board's authority is."""

    fingerprint: str = Field(description="SHA-256 of the authority that signs")
    old: str | None = Field(description="of the one that is being replaced, while one is")
    ends: float = Field(description="until when the authority is valid, Unix seconds")
    not_renewed: list[str] = Field(description="nodes whose certificate another authority has signed")
    update_key: str = Field(description="Ed25519, base64: signs updates")


class Finish(BaseModel):
    """How to finish a rotation."""

    force: bool = Field(
        default=False, description="also if nodes have not renewed yet; they have to join again"
    )


@router.get("/ca", response_class=PlainTextResponse, summary="The authorities in force")
def authorities(use: Use) -> str:
    """Return the certificates by which this board is known, as PEM; no log-in is needed. Compare their fingerprints."""
    return use.keys.authority.bundle


@router.get("/reach", summary="Where other machines connect")
def reach(use: Use) -> Reach:
    """Return the site and the ports of the encrypted listeners; no log-in is needed, a search of the network tells as much."""
    return use.keys.reach()


@router.get("", summary="How the authority is")
def standing(_person: Reader, use: Use) -> Trust:
    """Return whom machines trust, and which of them have to renew."""
    return _told(use.rotation.standing(), use)


@router.post("/rotate", summary="Replace the authority")
def rotate(person: Admin, use: Use) -> Trust:
    """Put a new authority in force; the old one is trusted until the rotation is finished."""
    found = use.rotation.rotate()
    use.audit.note(person.username, "trust.rotate", detail=f"new authority {found.fingerprint}")
    return _told(found, use)


@router.post("/finish", summary="Finish the rotation")
def finish(how: Finish, person: Admin, use: Use) -> Trust:
    """Trust the old authority no more."""
    found, late = use.rotation.finish(force=how.force)
    use.audit.note(
        person.username, "trust.finish", detail=f"given up: {', '.join(late)}" if late else "nobody was lost"
    )
    return _told(found, use)


def _told(found: Standing, use: Use) -> Trust:
    return Trust(
        fingerprint=found.fingerprint,
        old=found.old,
        ends=found.ends,
        not_renewed=found.not_renewed,
        update_key=use.keys.authority.update_key,
    )
