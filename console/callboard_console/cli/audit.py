"""``callboard audit``: who did what, from where, and what came of it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.board_http import BoardApi, open_board, path
from callboard_console.cli.context import Access
from callboard_console.cli.output import print_json, span, table
from callboard_console.cli.reaching import reaching
from callboard_core.errors import BadRequest

__all__ = ["audit"]

#: Entries asked for at a time, and seconds between two questions with --follow.
_PAGE = 1000
_EVERY = 1.0


@reaching
def audit(
    *,
    access: Access,
    who: Annotated[str | None, typer.Option(help="Only this user.")] = None,
    what: Annotated[
        str | None, typer.Option(help="Only this verb, such as command, login, user or user.add.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="Only what was done to something that holds this.")
    ] = None,
    result: Annotated[
        str | None, typer.Option(help="Only ok, an error code, or failed for all errors.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only the last while, such as 12h or 30d, or from 2026-05-31 on.")
    ] = None,
    last: Annotated[int, typer.Option("-n", "--last", min=1, max=_PAGE, help="How many to show.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens.")] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write all that matches to this file: .csv or .jsonl.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show who did what, from where, and what came of it, the newest last.

    Example: callboard audit --who ann --what command --since 7d
    """
    wanted = {"who": who, "what": what, "subject": subject, "result": result, "since": _start(since)}
    with open_board(access, "admin") as api:
        if export is not None:
            _export(api, export, wanted)
            return
        found = api.get(path("audit"), **wanted, limit=last)["items"][::-1]
        if as_json and not follow:
            print_json(found)
            return
        if not follow:
            table(_COLUMNS, [_row(one) for one in found], empty="nothing of that kind is in the log")
            return
        with contextlib.suppress(KeyboardInterrupt):
            for one in _following(api, wanted, found):
                print_json(one, indent=None) if as_json else print("\t".join(_row(one).values()), flush=True)


_COLUMNS = ["time", "who", "from", "what", "to", "result", "times"]


def _row(one: dict[str, Any]) -> dict[str, str]:
    detail = f" ({one['detail']})" if one["detail"] else ""
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["t"])),
        "who": one["who"] or "-",
        "from": one["origin"] or "-",
        "what": one["what"],
        "to": one["subject"],
        "result": one["result"] + detail,
        "times": str(one["count"]),
    }


def _following(
    api: BoardApi, wanted: dict[str, Any], found: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    yield from found
    seen = found[-1]["id"] if found else _newest(api)
    while True:
        page = api.get(path("audit"), **wanted, after=seen, limit=_PAGE)["items"]
        yield from page
        if page:
            seen = page[-1]["id"]
        else:
            time.sleep(_EVERY)


def _newest(api: BoardApi) -> int:
    items = api.get(path("audit"), limit=1)["items"]
    return int(items[0]["id"]) if items else 0


def _export(api: BoardApi, file: Path, wanted: dict[str, Any]) -> None:
    kind = file.suffix.removeprefix(".").lower()
    if kind not in {"csv", "jsonl"}:
        raise BadRequest(f"--export {file}: the name has to end with .csv or .jsonl")
    with file.open("wb") as out:
        for block in api.blocks(path("audit", "export"), **wanted, format=kind):
            out.write(block)
    print(f"{file} is written", file=sys.stderr)


def _start(text: str | None) -> float | None:
    if text is None:
        return None
    if "-" not in text:
        return time.time() - span(text)
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise BadRequest(
            f"--since {text}: expected a while such as 12h or 30d, or a date as 2026-05-31"
        ) from None
