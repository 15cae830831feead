"""``callboard set`` and ``callboard call``: commands to controls, actions and workers."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from callboard_console.cli import options
from callboard_console.cli.context import Access, connect, read_directory
from callboard_console.cli.output import print_json, value_text
from callboard_core.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from concurrent.futures import Future

    from callboard_core.cards import ControlCard
    from callboard_core.directory import Directory, Entry
    from callboard_core.link import Link

__all__ = [
    "call",
    "parse_arguments",
    "parse_value",
    "set_control",
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
#: Seconds an interrupted call has to come to an end.
_CANCEL_TIMEOUT = 5.0


def set_control(
    *,
    target: Annotated[str, typer.Argument(metavar="NODE/CONTROL")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="A number, on, off, or a text.")],
    timeout: options.Timeout = 10.0,
    state: options.State = None,
    config: options.Config = None,
    site: options.Site = None,
    board: options.BoardUrl = None,
    username: options.Username = None,
    password_file: options.PasswordFile = None,
    as_json: options.Json = False,
) -> None:
    """Set a control and wait until it is in force.

    Example: callboard set greenhouse/fan 40
    """
    from callboard_core.cards import ControlCard

    node, name = split_target(target)
    access = Access(
        state=state, config=config, site=site, board=board, username=username, password_file=password_file
    )
    with connect(access, "operator") as link, read_directory(link) as directory:
        entry = find_thing(directory, node, name, ("control",))
        assert isinstance(entry.card, ControlCard)  # noqa: S101 - what a control's card is
        result = _call(link, entry, {"value": parse_value(entry.card, value)}, timeout)
        if as_json:
            print_json({"node": node, "control": name, "result": result})
        else:
            print(f"{node}/{name} is {value_text(_value_in(result, value), entry.card.unit)}")


def call(
    *,
    target: Annotated[str, typer.Argument(metavar="NODE/ACTION")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Values are JSON, else taken as text."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.1, metavar="SECONDS", help="[default: what the card says]")
    ] = None,
    yes: options.Yes = False,
    state: options.State = None,
    config: options.Config = None,
    site: options.Site = None,
    board: options.BoardUrl = None,
    username: options.Username = None,
    password_file: options.PasswordFile = None,
    as_json: options.Json = False,
) -> None:
    """Call an action or a worker and print its result. Ctrl-C asks the node to interrupt it.

    Example: callboard call greenhouse/open-vent degrees=30 --yes
    """
    node, name = split_target(target)
    args = parse_arguments(arguments or [])
    access = Access(
        state=state, config=config, site=site, board=board, username=username, password_file=password_file
    )
    with connect(access, "operator") as link, read_directory(link) as directory:
        entry = find_thing(directory, node, name, ("action", "worker"))
        question = getattr(entry.card, "confirm", None)
        if question and not yes:
            typer.confirm(question, abort=True, err=True)
        result = _call(link, entry, args, timeout or float(getattr(entry.card, "timeout", 30.0)))
    if as_json or isinstance(result, dict | list):
        print_json(result)
    elif result is not None:
        print(value_text(result))


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


def parse_arguments(pairs: list[str]) -> dict[str, Any]:
    """Turn ``key=value`` pairs into arguments; a value that is no JSON is taken as text.

    Raises:
        BadRequest: a pair has no ``=``.
    """
    args: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise BadRequest(f"{pair!r}: say KEY=VALUE")
        try:
            args[key] = json.loads(text)
        except ValueError:
            args[key] = text
    return args


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
    from callboard_core.link import new_id
    from callboard_core.topics import Address, Leaf

    address = Address(link.site, entry.node, Leaf.COMMAND, entry.kind, entry.name)
    call_id = new_id()
    with _Bar(f"{entry.node}/{entry.name}") as bar:
        future = link.call(
            address, args, timeout=timeout, call_id=call_id, on_progress=bar.progress, on_ack=bar.acknowledged
        )
        try:
            return future.result()
        except KeyboardInterrupt:
            link.cancel(address, call_id)
            return _interrupted(future)


def _interrupted(future: Future[Any]) -> Any:
    """Wait for the end of a call that was asked to stop; a second Ctrl-C does not wait."""
    print("asked the node to interrupt it; waiting for the end …", file=sys.stderr)
    try:
        return future.result(_CANCEL_TIMEOUT)
    except TimeoutError:
        from callboard_core.errors import TimedOut

        raise TimedOut("the node has not ended the call; it may still be running there") from None


class _Bar:
    """A progress bar that appears when the callee says that it works on the call, if a person watches."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def acknowledged(self) -> None:
        if self._bar is None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._title, total=None)
            self._bar.start()

    def progress(self, done: float) -> None:
        self.acknowledged()
        if self._bar is not None:
            self._bar.update(self._task, total=1.0, completed=done)
