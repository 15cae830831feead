"""``callboard set`` and ``callboard call``: commands to controls and actions, and services by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.context import Access, connect, read_directory
from callboard_console.cli.output import print_json, table, value_text
from callboard_console.cli.reaching import reaching
from callboard_core.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from callboard_core.calls.gather import Answer
    from callboard_core.cards import ControlCard
    from callboard_core.directory import Directory, Entry
    from callboard_core.link import Link

__all__ = [
    "call",
    "find_service",
    "parse_value",
    "read_checked",
    "set_control",
    "split_arguments",
    "split_target",
]

#: Words people use for booleans.
_WORDS = {
    "on": True,
    "true": True,
    "yes": True,
    "1": True,
    "off": False,
    "false": False,
    "no": False,
    "0": False,
}


@reaching
def set_control(
    *,
    access: Access,
    target: Annotated[str, typer.Argument(metavar="NODE/CONTROL")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="A number, on, off, or a text.")],
    timeout: options.Timeout = 10.0,
    as_json: options.Json = False,
) -> None:
    """Set a control and wait until it is in force.

    Example: callboard set greenhouse/fan 40
    """
    from callboard_core.cards import ControlCard

    node, name = split_target(target)
    with connect(access, "operator") as link, read_directory(link) as directory:
        entry = find_thing(directory, node, name, ("control",))
        assert isinstance(entry.card, ControlCard)  # noqa: S101 - what a control's card is
        result = _call(link, entry, {"value": parse_value(entry.card, value)}, timeout)
        if as_json:
            print_json({"node": node, "control": name, "result": result})
        else:
            print(f"{node}/{name} is {value_text(_value_in(result, value), entry.card.unit)}")


@reaching
def call(
    *,
    access: Access,
    target: Annotated[str, typer.Argument(metavar="SERVICE|NODE/ACTION")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Values are read as the card's schema says."),
    ] = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="Call every worker that offers the service.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.1, metavar="SECONDS", help="[default: what the card says]")
    ] = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Call a service, whoever offers it, or a node's action or worker, and print the result. Ctrl-C interrupts it.

    Example: callboard call texture x=2 y=2 && callboard call greenhouse/open-vent degrees=30 --yes
    """
    pairs = split_arguments(arguments or [])
    thing = split_target(target) if "/" in target else None
    if thing is not None and everybody:
        raise BadRequest("--all goes with the name of a service, not with NODE/NAME")
    with connect(access, "operator") as link, read_directory(link) as directory:
        if thing is None and everybody:
            _print_answers(_call_all(directory, target, pairs, timeout), as_json=as_json)
            return
        if thing is None:
            result = _call_service(directory, target, pairs, timeout)
        else:
            result = _call_thing(link, directory, thing, pairs, timeout, yes=yes)
    _print_result(result, as_json=as_json)


def split_target(target: str) -> tuple[str, str]:
    """Split ``NODE/NAME``.

    Raises:
        BadRequest: it is not of that form; the message shows one that is.
    """
    from callboard_core.topics import check_id

    node, slash, name = target.partition("/")
    if not slash or not name:
        raise BadRequest(
            f"{target!r}: say NODE/NAME, for example greenhouse/fan; `callboard ls all` shows them"
        )
    return check_id(node, "node"), check_id(name, "name")


def parse_value(card: ControlCard, text: str) -> bool | float | str:
    """Return ``text`` as the control takes it.

    Raises:
        BadRequest: the control does not take it; the message says what it takes.
    """
    value: Any = text
    if card.type == "boolean":
        value = _WORDS.get(text.lower(), text)
    elif card.type == "number":
        value = _number(text)
    try:
        return card.check(value)
    except ValueError as error:
        raise BadRequest(str(error)) from None


def split_arguments(pairs: list[str]) -> dict[str, list[str]]:
    """Split ``key=value`` pairs; a key that comes again has several values.

    Raises:
        BadRequest: a pair has no ``=``.
    """
    found: dict[str, list[str]] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise BadRequest(f"{pair!r}: say KEY=VALUE")
        found.setdefault(key, []).append(text)
    return found


def read_checked(schema: Mapping[str, Any], pairs: Mapping[str, list[str]]) -> dict[str, Any]:
    """Read arguments as the schema says; of what it does not describe, JSON is taken as such, else text.

    Raises:
        BadRequest: one is missing, unknown or wrong; the message names it.
    """
    from callboard_core.calls.arguments import check_arguments
    from callboard_core.calls.texts import read_arguments

    args = read_arguments(schema, pairs)
    check_arguments(schema, args)
    return args


def find_service(directory: Directory, service: str) -> list[Entry]:
    """Return who offers a service, or services like a glob.

    Raises:
        NotFound: nobody; the message names services that are called alike.
    """
    import difflib

    from callboard_core.cards import WorkerCard

    found = directory.find(service)
    if found:
        return found
    workers = [entry.card for entry in directory.find(kind="worker")]
    known = sorted({card.service for card in workers if isinstance(card, WorkerCard)})
    alike = difflib.get_close_matches(service, known, n=5, cutoff=0.5)
    hint = (
        f"; did you mean {', '.join(alike)}?" if alike else "; `callboard ls workers` shows what is offered"
    )
    raise NotFound(f"nobody offers {service!r} at the moment{hint}")


def find_thing(directory: Directory, node: str, name: str, kinds: tuple[str, ...]) -> Entry:
    """Return the thing of that name.

    Raises:
        NotFound: there is none; the message names those there are.
    """
    offered = [entry for entry in directory.find(node=node, live=None) if entry.kind in kinds]
    for entry in offered:
        if entry.name == name:
            return entry
    what = " or ".join(kinds)
    known = directory.node(node)
    if known is None or known.card is None:
        nodes = ", ".join(sorted(one.id for one in directory.nodes())) or "none"
        raise NotFound(f"there is no node {node!r}; known are {nodes}")
    names = ", ".join(sorted(entry.name for entry in offered)) or "none"
    raise NotFound(f"{node} has no {what} {name!r}; it has {names}")


def _number(text: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _value_in(result: Any, default: Any) -> Any:
    return (
        result.get("value", default) if isinstance(result, dict) else (default if result is None else result)
    )


def _call(link: Link, entry: Entry, args: dict[str, Any], timeout: float) -> Any:
    from callboard_console.cli.progress import Bar, wait
    from callboard_core.link import new_id
    from callboard_core.topics import Address, Leaf

    address = Address(link.site, entry.node, Leaf.COMMAND, entry.kind, entry.name)
    call_id = new_id()
    with Bar(f"{entry.node}/{entry.name}") as bar:
        start = partial(
            link.call,
            address,
            args,
            timeout=timeout,
            call_id=call_id,
            on_progress=bar.progress,
            on_ack=bar.show,
        )
        return wait(start, bar, lambda: link.cancel(address, call_id))


def _call_thing(
    link: Link,
    directory: Directory,
    thing: tuple[str, str],
    pairs: Mapping[str, list[str]],
    timeout: float | None,
    *,
    yes: bool,
) -> Any:
    entry = find_thing(directory, *thing, ("action", "worker"))
    args = read_checked(getattr(entry.card, "parameters", {}), pairs)
    question = getattr(entry.card, "confirm", None)
    if question:
        options.confirm(question, yes=yes)
    return _call(link, entry, args, timeout or float(getattr(entry.card, "timeout", 30.0)))


def _call_service(
    directory: Directory, service: str, pairs: Mapping[str, list[str]], timeout: float | None
) -> Any:
    from callboard_console.cli.progress import Bar, wait

    args, longest = _arguments(directory, service, pairs)
    with directory.pool(service, wait=1.0) as pool, Bar(service) as bar:
        return wait(partial(pool.submit, args, timeout=timeout or longest, on_progress=bar.progress), bar)


def _call_all(
    directory: Directory, service: str, pairs: Mapping[str, list[str]], timeout: float | None
) -> list[Answer]:
    from callboard_console.cli.progress import Bar, wait

    args, longest = _arguments(directory, service, pairs)
    with directory.pool(service, wait=1.0) as pool, Bar(service) as bar:
        found: list[Answer] = wait(partial(pool.submit_to_all, args, timeout=timeout or longest), bar)
        return found


def _arguments(
    directory: Directory, service: str, pairs: Mapping[str, list[str]]
) -> tuple[dict[str, Any], float]:
    """The arguments as the newest card wants them, and how long the slowest worker may take, in seconds."""
    cards = [entry.card for entry in find_service(directory, service)]
    newest = cards[-1]
    args = read_checked(getattr(newest, "parameters", {}), pairs)
    return args, max(float(getattr(card, "timeout", 30.0)) for card in cards)


def _print_result(result: Any, *, as_json: bool) -> None:
    if isinstance(result, bytes) and not as_json:
        sys.stdout.buffer.write(result)
        sys.stdout.flush()
    elif as_json or isinstance(result, dict | list):
        _print_json(result)
    elif result is not None:
        print(value_text(result))


def _print_answers(answers: list[Answer], *, as_json: bool) -> None:
    """Print one line for each; whoever failed makes the whole fail."""
    from callboard_core.errors import Failed

    rows = [{"node": one.node, "service": one.service, **_told(one)} for one in answers]
    if as_json:
        _print_json(rows)
    else:
        table(("node", "service", "result", "error"), rows, empty="nobody offers it")
    failed = [one.node for one in answers if one.error is not None]
    if failed:
        raise Failed(f"{len(failed)} of {len(answers)} failed: {', '.join(failed)}")


def _told(answer: Answer) -> dict[str, Any]:
    error = answer.error
    return {"result": answer.result} if error is None else {"error": f"{error.code}: {error.message}"}


def _print_json(value: Any) -> None:
    """Print JSON, with bytes and arrays in the forms that they have on the wire."""
    import json

    from callboard_core.calls.codec import to_json

    print(json.dumps(value, indent=2, ensure_ascii=False, default=to_json), flush=True)
