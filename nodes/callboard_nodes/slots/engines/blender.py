"""Blender, one process for each assignment: ``blender --background FILE --render-frame 1,2,3``.

What it prints was captured from Blender 3.4 (Debian), 4.5 and 5.0. A setup script of ours applies the arguments; nothing
that a job brings is run unless it asks for ``autoexec``, which is also Blender's own rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from callboard_core.errors import BadRequest
from callboard_nodes.slots.engines.base import (
    Args,
    Begun,
    Finished,
    Heard,
    Program,
    Progressed,
    Saved,
    Sized,
    Trouble,
    Work,
    killed_by,
)

__all__ = ["FORMATS", "SCRIPT_ERROR", "Blender", "BlenderArgs", "BlenderReader", "settings_of"]

#: What ``output.format`` may be, and Blender's name for it: only formats whose files can be checked here.
FORMATS: Mapping[str, str] = {
    "png": "PNG",
    "jpeg": "JPEG",
    "jpg": "JPEG",
    "tiff": "TIFF",
    "tif": "TIFF",
    "exr": "OPEN_EXR",
    "exr-multilayer": "OPEN_EXR_MULTILAYER",
    "bmp": "BMP",
    "tga": "TARGA",
    "webp": "WEBP",
}

#: Exit code for exceptions in scripts of the command line; without it Blender ends with 0.
SCRIPT_ERROR = 9
#: Our own lines; see ``blender_setup.py``.
MARK = "CALLBOARD "
#: Not for the log: several lines for each sample, and our own.
NOISE = ("Fra:", MARK)
SETUP = Path(__file__).with_name("blender_setup.py")

#: Pixels of a side; Blender's own limit.
_LARGEST = 65_536

_FRAME = re.compile(r"Fra:(-?\d+) ")
_SAMPLE = re.compile(r"Sample (\d+)/(\d+)")
_TILES = re.compile(r"Rendered (\d+)/(\d+) Tiles")
#: 3.4 and 4.5 begin the line with it, 5.0 puts the time and the part of Blender in front.
_SAVED = re.compile(r"(?:^|\| )Saved: '(.*)'\s*$")
_ERROR = re.compile(r"^(?:\S+\s+\S+\s+\|\s*)?Error:\s*(.*)$")

_LICENCE = re.compile(r"\blicen[cs]e\b", re.IGNORECASE)
#: What Blender says, whose fault it is, and what we call it; the first that is found counts.
_ERRORS: Sequence[tuple[re.Pattern[str], Literal["node", "job"], str]] = [
    (re.compile(r"No space left on device"), "node", "disk_full"),
    (re.compile(r"cannot save:|Couldn't open file|Permission denied"), "node", "unwritable"),
    (
        re.compile(r"[Oo]ut of (?:GPU )?memory|Malloc returns null|Calloc returns null"),
        "node",
        "out_of_memory",
    ),
    # Debian's Blender has no denoiser, for one; the blender.org builds of other nodes do.
    (re.compile(r"[Bb]uild without "), "node", "unsupported"),
    (re.compile(r"Cannot read file"), "job", "bad_file"),
    (
        re.compile(r"File format is not supported|Failed to read blend file|not a blend file"),
        "job",
        "bad_file",
    ),
    (re.compile(r"no camera", re.IGNORECASE), "job", "no_camera"),
    (re.compile(r"engine not found"), "job", "bad_args"),
    (re.compile(r"Traceback \(most recent call last\)"), "job", "python"),
]


class BlenderArgs(Args):
    """What jobs may ask of Blender; None keeps what the file says."""

    op: Literal["render", "bake"] = "render"
    scene: str | None = Field(default=None, max_length=63)
    camera: str | None = Field(default=None, max_length=63)
    renderer: str | None = Field(default=None, pattern="^[A-Z][A-Z_]{1,40}$", description="e.g. CYCLES")
    samples: int | None = Field(default=None, ge=1, le=1_000_000)
    threads: int | None = Field(default=None, ge=1, le=1024)
    percentage: int | None = Field(default=None, ge=1, le=1000)
    border: tuple[float, float, float, float] | None = Field(
        default=None, description="x0, y0, x1, y1 as shares of the image, from its lower left corner"
    )
    crop: bool = Field(default=True, description="the file holds the border's inside only")
    size: tuple[int, int] | None = Field(
        default=None, description="width and height of the whole image, also when only a border is cut out"
    )
    device: Literal["CPU", "CUDA", "OPTIX", "HIP", "ONEAPI", "METAL"] | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    autoexec: bool = Field(default=False, description="run the scripts in the file")
    ignore_script_errors: bool = Field(
        default=False, description="take frames although a script in the file raised an exception"
    )

    @model_validator(mode="after")
    def _has_an_inside(self) -> BlenderArgs:
        if self.border is not None:
            x0, y0, x1, y1 = self.border
            if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
                raise ValueError("border: expected 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1")
        if self.size is not None and not all(0 < side <= _LARGEST for side in self.size):
            raise ValueError(f"size: expected 1 to {_LARGEST} pixels")
        return self


class Blender:
    """One process for each assignment."""

    name: ClassVar[str] = "blender"
    args: ClassVar[type[Args]] = BlenderArgs

    def programs(self, work: Work) -> Sequence[Program]:
        """Return one Blender for all frames."""
        args = _args(work)
        if args.op == "bake":
            return [_bake(work, args)]
        saves: dict[int | None, Path] = {frame: work.target(frame) for frame in work.frames}
        argv = [*start(work, args), "--python", str(SETUP)]
        argv += ["--render-output", str(work.out / work.output.pattern), "--use-extension", "0"]
        argv += ["--render-frame", ",".join(map(str, work.frames))]
        argv += ["--", json.dumps(settings_of(work, args))]
        return [Program(tuple(argv), reader(args), saves, noise=NOISE)]


def _bake(work: Work, args: BlenderArgs) -> Program:
    target = work.target()
    settings = {**settings_of(work, args), "bake": str(target)}
    argv = (*start(work, args), "--python", str(SETUP), "--", json.dumps(settings))
    return Program(argv, reader(args), {None: target}, noise=(MARK,))


def _args(work: Work) -> BlenderArgs:
    if not isinstance(work.args, BlenderArgs):
        raise BadRequest("blender got the arguments of another engine")
    if work.main is None:
        raise BadRequest("main: missing; name the .blend to open")
    return work.args


def start(work: Work, args: BlenderArgs) -> list[str]:
    """The beginning of every command line: the exit code for errors in scripts must come before any script."""
    argv = [work.program, "--background", "--factory-startup", "--python-exit-code", str(SCRIPT_ERROR)]
    argv.append("--enable-autoexec" if args.autoexec else "--disable-autoexec")
    if threads := min(filter(None, (args.threads, work.threads)), default=None):
        argv += ["--threads", str(threads)]
    return [*argv, str(work.main)]


def settings_of(work: Work, args: BlenderArgs) -> dict[str, Any]:
    """What the setup script applies to the scene.

    Raises:
        BadRequest: the output format is none of :data:`FORMATS`.
    """
    given = args.model_dump(
        include={"scene", "camera", "renderer", "samples", "percentage", "border", "crop", "device", "seed"},
        exclude_none=True,
    )
    if args.op == "render":
        if work.output.format.lower() not in FORMATS:
            raise BadRequest(
                f"output.format: {work.output.format!r} is not one of {', '.join(sorted(FORMATS))}"
            )
        given["format"] = FORMATS[work.output.format.lower()]
        given["encoder"] = work.output.encoder
        if args.size is not None:
            given |= {"width": args.size[0], "height": args.size[1]}
        elif args.border is None:  # with a border the output's size is that of the cut-out
            given |= {"width": work.output.width, "height": work.output.height}
    return given


def reader(args: BlenderArgs) -> BlenderReader:
    """Return what reads the output of a Blender with these arguments."""
    return BlenderReader(strict=args.autoexec and not args.ignore_script_errors)


class BlenderReader:
    """Reads Blender's output.

    Args:
        strict: an exception in the file's own scripts fails the frame; Blender itself only prints it and goes on. One that
            is raised between two frames is that of the next: most scripts run when the frame changes.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._frame: int | None = None
        self._trouble: Trouble | None = None
        self._raised: Trouble | None = None
        self._last = ""
        self._traceback: list[str] | None = None

    def line(self, text: str) -> Iterator[Heard]:
        """See :class:`~callboard_nodes.slots.engines.base.Reader`."""
        for heard in self._read(text):
            if isinstance(heard, Begun):
                self._frame = heard.frame
            elif isinstance(heard, Saved):
                self._frame = None
            elif isinstance(heard, Finished) and self._raised is not None:
                yield self._raised
            yield heard
        if self._raised is not None and self._frame is not None:
            raised, self._raised = self._raised, None
            yield raised

    def _read(self, text: str) -> Iterator[Heard]:
        if text.startswith(MARK):
            yield from read_mark(text)
            return
        self._note(text)
        if found := _FRAME.match(text):
            if (frame := int(found[1])) != self._frame:
                yield Begun(frame)
            yield from _progress(text)
        elif found := _SAVED.search(text):
            yield Saved(Path(found[1]))

    def ended(self, code: int) -> Trouble | None:
        """See :class:`~callboard_nodes.slots.engines.base.Reader`."""
        if code == 0:
            return self._raised
        if code < 0:
            return self._trouble if self._trouble and self._trouble.fault == "node" else killed_by(code)
        if code == SCRIPT_ERROR:
            said = self._last if self._trouble is None else self._trouble.message
            return self._trouble or Trouble("job", "python", f"a script raised: {said}")
        return self._trouble or killed_by(code, self._last)

    def _note(self, text: str) -> None:
        """Remember what may explain the end; a traceback's last line says most."""
        if self._traceback is not None:
            if not text.strip() or (text[0] not in " \t" and self._traceback):
                self._trouble = Trouble("job", "python", f"a script raised {text.strip()}"[:500])
                self._raised = self._trouble if self._strict else None
                self._traceback = None
            elif text[0] not in " \t":
                self._traceback = None
            else:
                self._traceback.append(text)
            return
        if "Traceback (most recent call last)" in text:
            self._traceback = []
            return
        if found := _ERROR.match(text):
            self._last = found[1].strip()
        self._trouble = self._trouble or _explained(text)


def _explained(text: str) -> Trouble | None:
    if "rror" not in text and "emory" not in text and "null" not in text:
        return None
    for pattern, fault, code in _ERRORS:
        if pattern.search(text):
            return Trouble(fault, code, text.strip().removeprefix("Error: ")[:500])
    if _LICENCE.search(text):
        return Trouble("licence", "licence", text.strip()[:500])
    return None


def _progress(text: str) -> Iterable[Heard]:
    tiles, sample = _TILES.search(text), _SAMPLE.search(text)
    if tiles and int(tiles[2]):
        within = int(sample[1]) / int(sample[2]) if sample and int(sample[2]) else 0.0
        yield Progressed(min(1.0, (int(tiles[1]) + within) / int(tiles[2])))
    elif sample and int(sample[2]):
        yield Progressed(min(1.0, int(sample[1]) / int(sample[2])))


def read_mark(text: str) -> Iterator[Heard]:
    """Read a line of our own scripts; what is none is left to the log."""
    try:
        said = json.loads(text.removeprefix(MARK))
    except ValueError:
        return
    if not isinstance(said, dict):
        return
    if "size" in said:
        yield Sized(*said["size"])
    if "begun" in said:
        yield Begun(said["begun"])
    if "progress" in said:
        yield Progressed(said["progress"])
    if "saved" in said:
        yield Saved(Path(said["saved"]))
    if "finished" in said:
        yield Finished()
    if "trouble" in said:
        text = str(said["trouble"]).strip()[:500]
        yield _explained(text) or Trouble("job", "python", text)
