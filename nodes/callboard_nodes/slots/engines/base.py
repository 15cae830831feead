"""What an engine is: it turns a piece of work into programs to run, and reads what they say. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from callboard_core.errors import BadRequest
from callboard_core.farm.messages import Output
from callboard_core.messages import describe

__all__ = [
    "Args",
    "Begun",
    "Engine",
    "Fault",
    "Finished",
    "Heard",
    "Program",
    "Progressed",
    "Reader",
    "Saved",
    "Simulation",
    "Sized",
    "Trouble",
    "Work",
    "file_name",
    "killed_by",
    "read_args",
]

Fault = Literal["node", "job", "licence"]

_HASHES = re.compile(r"#+")


class Args(BaseModel):
    """Base of what an engine takes: unknown keys are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Work:
    """One assignment as an engine sees it: everything is on this machine's disk.

    Attributes:
        frames: what to render; empty for single work.
        main: the input to open.
        inputs: all inputs by name, in the order they were given.
        folder: an empty folder of this attempt for whatever the engine needs.
        out: where results go, under the names of ``output.pattern``.
        output: what to make.
        args: as the engine's own model.
        threads: how many it may use; None: all.
        program: the engine's executable.
        version: the program's.
    """

    frames: tuple[int, ...]
    main: Path | None
    inputs: Mapping[str, Path]
    folder: Path
    out: Path
    output: Output
    args: Args
    threads: int | None = None
    program: str = ""
    version: str = ""

    def target(self, frame: int | None = None) -> Path:
        """Where the file of a frame, or the only one, is written."""
        return self.out / file_name(self.output.pattern, frame)


@dataclass(frozen=True, slots=True)
class Begun:
    """The program works on a frame; None: on the only piece of work."""

    frame: int | None


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far the frame is that it works on, 0 to 1."""

    share: float


@dataclass(frozen=True, slots=True)
class Saved:
    """The program says that it has written a file."""

    path: Path


@dataclass(frozen=True, slots=True)
class Sized:
    """The program says how large the images will be, in pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong, and whose fault it is."""

    fault: Fault
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A warm program has done what it was asked, and waits for more."""


Heard = Begun | Progressed | Saved | Sized | Trouble | Finished


class Reader(Protocol):
    """Reads what one program says. Keeps what it has to remember between lines; does no I/O."""

    def line(self, text: str) -> Iterable[Heard]:
        """Take a line of its output."""

    def ended(self, code: int) -> Trouble | None:
        """Say what an exit code (negative: the signal that killed it) means; None: all is well."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run.

    Attributes:
        argv: the program and its arguments.
        reader: reads its output.
        saves: the files it is to make, by frame.
        env: what its environment has besides this process's own.
        warm: a key; a program that is still running under it from before takes the work without being started.
        request: what a warm program is told on its standard input, one line.
        noise: lines that begin so are not kept in the log.
        at_once: it works from its start on, and need not say anything for that.
    """

    argv: tuple[str, ...]
    reader: Reader
    saves: Mapping[int | None, Path]
    env: Mapping[str, str] = field(default_factory=dict)
    warm: str | None = None
    request: str | None = None
    noise: tuple[str, ...] = ()
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Simulation:
    """Work that is only played, in the node's own process.

    Attributes:
        saves: the files it is to make, by frame; none if it makes none.
        steps: what it says, and after how many seconds; what is said after infinity is never said.
        makes: writes a file, before it says that it has.
        ends: how it ends.
    """

    saves: Mapping[int | None, Path]
    steps: Sequence[tuple[float, Heard]]
    makes: Callable[[Path], object] | None = None
    ends: Trouble | None = None


class Engine(Protocol):
    """One way to work on tasks.

    Attributes:
        name: what assignments call it.
        args: the model of the arguments it takes.
    """

    name: ClassVar[str]
    args: ClassVar[type[Args]]

    def programs(self, work: Work) -> Sequence[Program | Simulation]:
        """Return what to run, one after the other.

        Raises:
            BadRequest: it cannot do this work; the message says why.
        """


def read_args(model: type[Args], given: Mapping[str, JsonValue]) -> Args:
    """Return an assignment's arguments as the engine's model.

    Raises:
        BadPayload: one is unknown or wrong; the message names it.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise describe(error) from None


def file_name(pattern: str, frame: int | None) -> str:
    """Return a pattern with its last run of ``#`` replaced by the frame's number, as Blender does it.

    Raises:
        BadRequest: there is a frame and no ``#``, or the other way round.
    """
    found = list(_HASHES.finditer(pattern))
    if frame is None:
        if found:
            raise BadRequest(f"output.pattern: {pattern!r} holds # and there are no frames")
        return pattern
    if not found:
        raise BadRequest(f"output.pattern: {pattern!r} holds no # for the frame's number")
    start, end = found[-1].span()
    number = f"{abs(frame):0{end - start}d}"
    return f"{pattern[:start]}{'-' if frame < 0 else ''}{number}{pattern[end:]}"


def killed_by(code: int, last: str = "") -> Trouble:
    """Return what it means that a program ended with a code that is not its own saying."""
    if code < 0:
        return Trouble("node", "crashed", f"the renderer was killed by signal {-code}")
    said = f": {last}" if last else ""
    return Trouble("job", "exit_code", f"the renderer ended with exit code {code}{said}")
