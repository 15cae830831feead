"""POV-Ray 3.7: one process for each stretch of consecutive frames, as one of its own animations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from callboard_core.errors import BadRequest
from callboard_nodes.slots.engines.base import (
    Args,
    Begun,
    Heard,
    Program,
    Progressed,
    Saved,
    Trouble,
    Work,
    killed_by,
)

__all__ = ["FORMATS", "Povray", "PovrayArgs", "PovrayReader"]

#: ``output.format`` and the letter of the ``Output_File_Type`` option.
FORMATS: Mapping[str, str] = {"png": "N", "jpeg": "J", "jpg": "J", "exr": "E"}

_FRAME = re.compile(r"^Rendering frame (\d+) of (\d+)")
_PIXELS = re.compile(r"Rendered (\d+) of (\d+) pixels")
#: What it says, whose fault it is, and what we call it.
_ERRORS: Sequence[tuple[re.Pattern[str], Literal["node", "job"], str]] = [
    (re.compile(r"No space left on device"), "node", "disk_full"),
    (re.compile(r"Cannot open (?:output )?file|Permission denied|I/O restriction"), "node", "unwritable"),
    (re.compile(r"[Oo]ut of memory|bad_alloc"), "node", "out_of_memory"),
    (re.compile(r"Cannot find input file|Could not find file|Cannot find file"), "job", "input_missing"),
    (re.compile(r"Parse Error|Fatal error in parser"), "job", "bad_file"),
]
_NAME = re.compile(r"^[A-Za-z_]\w{0,39}$")


class PovrayArgs(Args):
    """What jobs may ask of POV-Ray."""

    quality: int = Field(default=9, ge=0, le=11)
    antialias: float | None = Field(default=None, ge=0, le=3, description="threshold; none when missing")
    threads: int | None = Field(default=None, ge=1, le=512)
    clock: tuple[float, float] = Field(default=(0.0, 1.0), description="of the first and the last frame")
    frames_total: tuple[int, int] | None = Field(
        default=None, description="the frames over which the clock runs; the assignment's own when missing"
    )
    declare: dict[str, float] = Field(default_factory=dict, max_length=100)
    region: tuple[float, float, float, float] | None = Field(
        default=None, description="x0, y0, x1, y1 as shares of the image, from its upper left corner"
    )

    @model_validator(mode="after")
    def _names_and_ranges(self) -> PovrayArgs:
        for name in self.declare:
            if not _NAME.match(name):
                raise ValueError(f"declare: {name!r} is no POV-Ray name")
        if self.region is not None:
            x0, y0, x1, y1 = self.region
            if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
                raise ValueError("region: expected 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1")
        return self


class Povray:
    """One process for each stretch of frames."""

    name: ClassVar[str] = "povray"
    args: ClassVar[type[Args]] = PovrayArgs

    def programs(self, work: Work) -> Sequence[Program]:
        """Return one program for each stretch of consecutive frames, or one for a still."""
        args = work.args
        if not isinstance(args, PovrayArgs) or work.main is None:
            raise BadRequest("main: missing; name the scene to render")
        common = _common(work, args)
        if not work.frames:
            target = work.target()
            return [Program((*common, f"+O{target}"), PovrayReader((None,), {None: target}), {None: target})]
        first, last = args.frames_total or (min(work.frames), max(work.frames))
        if not first <= min(work.frames) <= max(work.frames) <= last:
            raise BadRequest(f"frames_total: {first} … {last} does not hold all frames")
        return [_animation(work, args, common, run, (first, last)) for run in stretches(work.frames)]


def _common(work: Work, args: PovrayArgs) -> list[str]:
    output = work.output
    if output.format.lower() not in FORMATS:
        raise BadRequest(f"output.format: {output.format!r} is not one of {', '.join(sorted(FORMATS))}")
    if output.width is None or output.height is None:
        raise BadRequest("output: POV-Ray needs width and height")
    argv = [work.program, f"+I{work.main}", f"+W{output.width}", f"+H{output.height}"]
    # No display, no pause at the end, no statistics; each frame starts from nothing.
    argv += [f"+F{FORMATS[output.format.lower()]}", f"+Q{args.quality}", "-D", "-P", "-GS", "-C"]
    argv += [f"+L{folder}" for folder in sorted({path.parent for path in work.inputs.values()})]
    argv += [f"+A{args.antialias:g}"] if args.antialias is not None else ["-A"]
    if threads := min(filter(None, (args.threads, work.threads)), default=None):
        argv.append(f"+WT{threads}")
    if args.region is not None:
        argv += _region(args.region, output.width, output.height)
    argv += [f"Declare={name}={value:g}" for name, value in args.declare.items()]
    return argv


def _region(region: tuple[float, float, float, float], width: int, height: int) -> list[str]:
    """Rows and columns count from 1, and both ends are rendered."""
    x0, y0, x1, y1 = region
    return [
        f"+SC{int(x0 * width) + 1}",
        f"+EC{int(x1 * width)}",
        f"+SR{int(y0 * height) + 1}",
        f"+ER{int(y1 * height)}",
    ]


def _animation(
    work: Work, args: PovrayArgs, common: list[str], run: Sequence[int], total: tuple[int, int]
) -> Program:
    # Its frame numbers begin at 1 here, whatever the job's are: it takes no negative ones.
    first, last = total
    shift = 1 - first
    suffix = Path(work.output.pattern).suffix
    stem = work.folder / f"pov-{suffix}"
    digits = len(str(last + shift))
    saves: dict[int | None, Path] = {
        frame: stem.with_name(f"pov-{frame + shift:0{digits}d}{suffix}") for frame in run
    }
    argv = [*common, f"+O{stem}", "+KFI1", f"+KFF{last + shift}"]
    argv += [
        f"+SF{run[0] + shift}",
        f"+EF{run[-1] + shift}",
        f"+KI{args.clock[0]:g}",
        f"+KF{args.clock[1]:g}",
    ]
    return Program(tuple(argv), PovrayReader(tuple(run), saves), saves)


def stretches(frames: Sequence[int]) -> list[tuple[int, ...]]:
    """Split frames, in order, into runs of consecutive numbers."""
    runs: list[list[int]] = []
    for frame in sorted(frames):
        if runs and runs[-1][-1] + 1 == frame:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return [tuple(run) for run in runs]


class PovrayReader:
    """Reads what POV-Ray prints: it names each frame when it begins, and nothing when a file is written."""

    def __init__(self, frames: Sequence[int | None], saves: Mapping[int | None, Path]) -> None:
        self._frames, self._saves = frames, saves
        self._at = -1
        self._last = ""
        self._trouble: Trouble | None = None

    def line(self, text: str) -> Iterator[Heard]:
        """See :class:`~callboard_nodes.slots.engines.base.Reader`."""
        if found := _FRAME.match(text):
            yield from self._begin(int(found[1]) - 1)
        elif text.startswith("==== [Rendering"):
            yield from self._begin(max(self._at, 0))
        for pixels in _PIXELS.finditer(text):
            yield Progressed(int(pixels[1]) / max(1, int(pixels[2])))
        if text.startswith("POV-Ray finished") and self._at >= 0:
            yield Saved(self._saves[self._frames[self._at]])
        self._note(text)

    def ended(self, code: int) -> Trouble | None:
        """See :class:`~callboard_nodes.slots.engines.base.Reader`."""
        if code == 0:
            return None
        return killed_by(code) if code < 0 else self._trouble or killed_by(code, self._last)

    def _begin(self, index: int) -> Iterator[Heard]:
        if index == self._at or index >= len(self._frames):
            return
        if self._at >= 0:
            yield Saved(self._saves[self._frames[self._at]])
        self._at = index
        yield Begun(self._frames[index])

    def _note(self, text: str) -> None:
        for pattern, fault, code in _ERRORS:
            if self._trouble is None and pattern.search(text):
                self._trouble = Trouble(fault, code, text.strip()[:500])
        self._last = text.strip() or self._last
