"""Add node: what the form asks of the board and of a card, the join code as people take it along, and who waits."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import segno
from pydantic import JsonValue, ValidationError

from callboard_console.web.views import parts, words
from callboard_console.web.views.markup import Markup, join, node_link, tag
from callboard_core.boot import Bus, CardConfig, Wifi
from callboard_core.errors import BadRequest
from callboard_core.messages import describe
from callboard_core.topics import check_id
from callboard_core.trust.enrolment import MadeJoin

__all__ = ["TIMES", "Card", "Wish", "flashing", "invitation", "no_lan", "waiting"]

#: How long a code can be good for: what people read, and seconds.
TIMES = {"1 hour": 3_600.0, "1 day": 86_400.0, "7 days": 604_800.0, "30 days": 2_592_000.0}
#: Machines that are listed, beside those that wait.
_RECENT = 10
_TONES = {"pending": "warn", "accepted": "ok", "rejected": "bad", "revoked": "idle"}
_SAID = {"pending": "waits", "accepted": "let in", "rejected": "refused", "revoked": "revoked"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the form asks of a join code.

    Attributes:
        id: the only node it is for; empty for any.
        seconds: how long it is good for.
        uses: machines it lets in.
        ask: whether an operator must say yes to each.
    """

    id: str = ""
    seconds: float = 3_600.0
    uses: int = 1
    ask: bool = False

    def request(self) -> dict[str, JsonValue]:
        """Return what to send to the board.

        Raises:
            BadRequest: the id is none.
        """
        who: dict[str, JsonValue] = {"id": check_id(self.id, "name")} if self.id else {}
        return {"uses": self.uses, "seconds": self.seconds, "ask": self.ask, **who}


@dataclass(frozen=True, slots=True)
class Card:
    """What the form asks of a card; every text may be empty."""

    id: str
    label: str = ""
    tags: str = ""
    user: str = "pi"
    ssh_key: str = ""
    ssid: str = ""
    passphrase: str = ""
    country: str = ""
    timezone: str = ""
    buses: Sequence[Bus] = ()

    def config(self, made: MadeJoin, site: str, ca: str) -> CardConfig:
        """Return the machine that boots from the card.

        Args:
            made: the join code that goes with it.
            site: the board's site.
            ca: the board's authorities, PEM.

        Raises:
            BadRequest: something is missing or wrong; the message names it.
        """
        try:
            return CardConfig(
                id=check_id(self.id, "name"),
                site=site,
                label=self.label.strip(),
                tags=self._tags,
                user=self.user.strip() or "pi",
                ssh_keys=self._keys,
                wifi=Wifi.of(self.ssid, self.passphrase) if self.ssid else None,
                country=self.country.strip().upper(),
                timezone=self.timezone.strip(),
                buses=list(self.buses),
                join=made.code,
                ca=ca,
                fetch=True,
            )
        except ValidationError as error:
            raise BadRequest(describe(error).message) from None

    def command(self, made: MadeJoin) -> str:
        """Return what makes the same card from an image, and asks for the Wi-Fi's password itself."""
        words = ["callboard", "flash", "raspios.img.xz", "/dev/sdX", "--id", self.id]
        given = {
            "--label": [self.label.strip()],
            "--tag": self._tags,
            "--user": [self.user.strip()] if self._keys else [],
            "--ssh-key": self._keys,
            "--wifi": [self.ssid],
            "--country": [self.country.strip().upper()],
            "--timezone": [self.timezone.strip()],
            "--bus": self.buses,
            "--join": [made.code],
        }
        words += [
            word for name, values in given.items() for value in values if value for word in (name, value)
        ]
        return shlex.join(words)

    @property
    def _tags(self) -> list[str]:
        return self.tags.replace(",", " ").split()

    @property
    def _keys(self) -> list[str]:
        return [line.strip() for line in self.ssh_key.splitlines() if line.strip()]


def flashing(command: str) -> Markup:
    """Return the command that makes the card from an image."""
    return tag(
        "div",
        tag(
            "div",
            tag("h3", "Or make the whole card at once"),
            parts.copyable(command),
            tag(
                "p",
                "It writes the image and brings all packages, so that the Pi needs no internet. Name your image and your "
                "card's device in it; callboard flash --list shows devices.",
                class_="cb-quiet",
            ),
        ),
        class_="cb-invitation",
    )


def invitation(made: MadeJoin, now: float) -> Markup:
    """Return a new join code: to scan, and to paste on the other machine."""
    left = made.expires - now
    many = "one machine" if made.uses == 1 else f"{made.uses} machines"
    term = f"for {words.duration(left)}" if left > 0 else "no more: it has expired"
    asks = " Each has to be accepted below." if made.ask else ""
    return tag(
        "div",
        tag("div", _qr(made.code), class_="cb-qr"),
        tag(
            "div",
            tag("h3", "On the other machine"),
            parts.copyable(made.command),
            tag("p", f"Lets in {many}, {term}. It is shown this once.{asks}", class_="cb-quiet"),
            tag(
                "p",
                "Or, to have it run at every start of the machine, as a service of systemd:",
                class_="cb-quiet",
            ),
            parts.copyable(made.service),
            tag("p", "Callboard must be installed there; its base install is enough.", class_="cb-quiet"),
        ),
        class_="cb-invitation",
        data_key=made.name,
    )


def waiting(machines: Iterable[Mapping[str, Any]], now: float, *, may_decide: bool) -> Markup:
    """Return who waits to be let in, with what to click, and who asked lately."""
    found = list(machines)
    pending = [one for one in found if one["state"] == "pending"]
    others = [one for one in found if one["state"] != "pending"][:_RECENT]
    if not pending and not others:
        return parts.empty("No machine has asked to be let in.", "Those that have appear here by themselves.")
    head = tag("tr", *(tag("th", name) for name in ("", "Node", "From", "Key", "Asked", "Why", "")))
    rows = [_machine(one, now, may_decide=may_decide) for one in (*pending, *others)]
    return tag(
        "section",
        tag("table", tag("thead", head), tag("tbody", *rows), class_="cb-table cb-waiting"),
        data_key="w",
    )


def no_lan() -> Markup:
    """Return what to do where other machines cannot reach the board at all."""
    return parts.empty(
        "Other machines cannot reach this board yet.",
        join("It listens on its own machine only. Start it for the network, encrypted:"),
        parts.copyable("callboard up --lan"),
    )


def _machine(one: Mapping[str, Any], now: float, *, may_decide: bool) -> Markup:
    name, state, number = str(one["id"]), str(one["state"]), one["number"]
    acts = (
        join(
            tag("a", "Accept", role="button", tabindex="0", data_act=f"accept:{number}", class_="cb-yes"),
            tag("a", "Reject", role="button", tabindex="0", data_act=f"reject:{number}", class_="cb-no"),
        )
        if state == "pending" and may_decide
        else None
    )
    return tag(
        "tr",
        tag("td", tag("span", _SAID.get(state, state), class_=f"cb-status cb-{_TONES.get(state, 'idle')}")),
        tag(
            "td", node_link(name, one.get("label") or name), tag("small", name if one.get("label") else None)
        ),
        tag("td", one.get("host") or words.UNKNOWN, tag("small", one["address"])),
        tag("td", tag("code", str(one["fingerprint"])[:16])),
        tag("td", words.ago(float(one["asked"]), now), class_="cb-for"),
        tag("td", str(one["reason"]), class_="cb-why"),
        tag("td", acts, class_="cb-acts"),
        data_key=str(number),
    )


def _qr(text: str) -> Markup:
    return Markup(
        segno.make(text, error="l", micro=False).svg_inline(
            scale=4, border=3, dark="#111", light="#fff", omitsize=True, title="Join code"
        )
    )
