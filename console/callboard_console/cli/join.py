"""``callboard join``: codes that let machines in, and who waits to be let in."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.board_http import BoardApi, open_board, path
from callboard_console.cli.context import Access
from callboard_console.cli.output import age, print_json, table
from callboard_console.cli.reaching import reaching
from callboard_core.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from callboard_core.trust.enrolment import MadeJoin

__all__ = ["join"]

join = typer.Typer(
    name="join",
    help="Make a code that lets a machine join, and decide about those that wait.\n\n"
    "Example: callboard join --id greenhouse",
    invoke_without_command=True,
    rich_markup_mode=None,
)

_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
Machine = Annotated[
    str, typer.Argument(metavar="NODE|NUMBER", help="Its id, or the number that `join ls` shows.")
]


@join.callback()
@reaching
def make(
    context: typer.Context,
    *,
    access: Access,
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="How long it is good for: 30m, 1h, 7d.")
    ] = "1h",
    uses: Annotated[int, typer.Option(min=1, max=10_000, help="How many machines it lets in.")] = 1,
    node_id: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="ID", help="Let in only the node ID, even if it is known: for a new card."
        ),
    ] = None,
    ask: Annotated[bool, typer.Option("--ask", help="Have every machine wait for `join accept`.")] = False,
    as_json: options.Json = False,
) -> None:
    """Make a join code. It is shown this once; into a pipe goes the code alone.

    Example: callboard join --id greenhouse --expires 1d
    """
    if context.invoked_subcommand is not None:
        sources = map(context.get_parameter_source, context.params)
        if any(source is not None and source.name == "COMMANDLINE" for source in sources):
            raise BadRequest(f"write the options after `join {context.invoked_subcommand}`")
        return
    from callboard_core.trust.enrolment import MadeJoin

    wanted = {"uses": uses, "seconds": seconds_of(expires), "ask": ask, "id": node_id}
    with open_board(access, "operator") as api:
        made = MadeJoin.model_validate(api.post(path("joins"), wanted))
    if as_json:
        print_json(made.model_dump(mode="json") | {"command": made.command})
    elif sys.stdout.isatty():
        print(invitation(made, time.time()))
    else:
        print(made.code)


@join.command()
@reaching
def ls(*, access: Access, as_json: options.Json = False) -> None:
    """List who waits to be let in, who was, and the codes that are still good.

    Example: callboard join ls
    """
    with open_board(access, "operator") as api:
        machines, codes = api.get(path("enrolments"))["items"], api.get(path("joins"))["items"]
    if as_json:
        print_json({"machines": machines, "codes": codes})
        return
    now = time.time()
    table(
        ["number", "node", "state", "host", "address", "key", "asked", "why"],
        [_machine(one, now) for one in machines],
        empty="no machine has asked to be let in; `callboard join` makes a code",
    )
    table(
        ["code", "for", "used", "expires in", "by"],
        [_code(one, now) for one in codes if one["expires"] > now and one["used"] < one["uses"]],
        empty="no code is good any more",
    )


@join.command()
@reaching
def accept(machine: Machine, *, access: Access) -> None:
    """Let a machine in that waits. Compare its key with what the machine shows.

    Example: callboard join accept greenhouse
    """
    _decide(access, machine, "accept", "is let in")


@join.command()
@reaching
def reject(machine: Machine, *, access: Access) -> None:
    """Refuse a machine that waits; it is told.

    Example: callboard join reject greenhouse
    """
    _decide(access, machine, "reject", "is refused")


@join.command()
@reaching
def revoke(
    what: Annotated[
        str, typer.Argument(metavar="NODE|CODE", help="A node that was let in, or a code's name.")
    ],
    *,
    access: Access,
) -> None:
    """Take the credential away from a node, whose connection ends within seconds; or make a code worthless.

    Example: callboard join revoke old-pi
    """
    with open_board(access, "operator") as api:
        if any(one["name"] == what for one in api.get(path("joins"))["items"]):
            api.send("DELETE", path("joins", what))
            print(f"the join code {what} is worthless")
            return
        found = _find(api, what, "accepted")
        api.post(path("enrolments", found["number"]), {"action": "revoke"})
    print(f"{found['id']} has no credential any more")


def _decide(access: Access, machine: str, action: str, done: str) -> None:
    with open_board(access, "operator") as api:
        found = _find(api, machine, "pending")
        api.post(path("enrolments", found["number"]), {"action": action})
    print(f"{found['id']} {done}")


def _find(api: BoardApi, machine: str, state: str) -> dict[str, Any]:
    """Return the newest machine of an id, or of a number, that is in a state."""
    machines: list[dict[str, Any]] = api.get(path("enrolments"))["items"]
    there = [one for one in machines if one["state"] == state]
    for one in there:
        if machine in {one["id"], str(one["number"])}:
            return one
    names = ", ".join(sorted({one["id"] for one in there})) or "none"
    raise NotFound(f"no machine {machine!r} is {state}; those that are: {names}")


def seconds_of(text: str, option: str = "--expires") -> float:
    """Read how long a join code is to be good: ``90``, ``30m``, ``1.5h``, ``7d``.

    Args:
        text: what was given.
        option: as what.

    Raises:
        BadRequest: it is no length of time, or none that a board takes.
    """
    from callboard_core.trust.enrolment import LONGEST

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if found is None:
        raise BadRequest(f"{option} {text!r}: write a number and s, m, h or d, as in 30m or 1h")
    seconds = float(found[1]) * _UNITS[found[2] or "s"]
    if not 0 < seconds <= LONGEST:
        raise BadRequest(
            f"{option} {text!r}: a code is good for up to {LONGEST // 86_400} days; write 1h, for instance"
        )
    return seconds


def invitation(made: MadeJoin, now: float) -> str:
    """Return a new join code as people take it to the other machine."""
    many = "one machine" if made.uses == 1 else f"{made.uses} machines"
    word = ", each after `callboard join accept`" if made.ask else ""
    return (
        f"{qr(made.code)}\nLets in {many} within {age(made.expires - now)}{word}. On the other machine:\n\n"
        f"  {made.command}"
    )


def qr(text: str) -> str:
    """Return a QR code of half blocks; nothing where the library for it is not installed."""
    from io import StringIO

    try:
        import segno
    except ImportError:
        return ""
    drawn = StringIO()
    segno.make(text, error="l", micro=False).terminal(drawn, compact=True, border=2)
    return drawn.getvalue()


def _machine(one: dict[str, Any], now: float) -> dict[str, Any]:
    return {
        "number": one["number"],
        "node": one["id"],
        "state": one["state"],
        "host": one.get("host") or "",
        "address": one["address"],
        "key": one["fingerprint"][:16],
        "asked": f"{age(now - one['asked'])} ago",
        "why": one["reason"],
    }


def _code(one: dict[str, Any], now: float) -> dict[str, Any]:
    return {
        "code": one["name"],
        "for": (one.get("id") or "any node") + (", who waits" if one["ask"] else ""),
        "used": f"{one['used']} of {one['uses']}",
        "expires in": age(one["expires"] - now),
        "by": one["by"],
    }
