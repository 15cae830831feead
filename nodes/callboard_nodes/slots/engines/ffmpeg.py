"""ffmpeg: frames become a video, a small preview of it, or the tiles of one image are put together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

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

__all__ = ["Ffmpeg", "FfmpegArgs", "FfmpegReader"]

#: Codec → options of ffmpeg; ``crf`` is added where the codec knows it.
_CODECS: Mapping[str, tuple[str, ...]] = {
    "h264": ("-c:v", "libx264"),
    "h265": ("-c:v", "libx265"),
    "vp9": ("-c:v", "libvpx-vp9", "-b:v", "0"),
    "av1": ("-c:v", "libsvtav1"),
    "ffv1": ("-c:v", "ffv1"),
    "prores": ("-c:v", "prores_ks"),
    "mjpeg": ("-c:v", "mjpeg", "-q:v", "3"),
}
_CRF = frozenset({"h264", "h265", "vp9", "av1"})
#: What players outside of studios expect.
_PIXELS: Mapping[str, str] = {
    "h264": "yuv420p",
    "h265": "yuv420p",
    "vp9": "yuv420p",
    "av1": "yuv420p",
    "prores": "yuv422p10le",
    "mjpeg": "yuvj420p",
}
_ERRORS: Sequence[tuple[re.Pattern[str], Literal["node", "job"], str]] = [
    (re.compile(r"No space left on device"), "node", "disk_full"),
    (re.compile(r"Permission denied|Read-only file system"), "node", "unwritable"),
    (re.compile(r"Cannot allocate memory"), "node", "out_of_memory"),
    (re.compile(r"Unknown encoder|Encoder .* not found"), "node", "engine_missing"),
    (re.compile(r"No such file or directory"), "job", "input_missing"),
    (re.compile(r"Invalid data found|Invalid PNG|Error while decoding"), "job", "bad_file"),
]


class FfmpegArgs(Args):
    """What jobs may ask of ffmpeg."""

    op: Literal["encode", "preview", "stack"] = "encode"
    fps: float = Field(default=24.0, gt=0, le=1000)
    codec: Literal["h264", "h265", "vp9", "av1", "ffv1", "prores", "mjpeg"] = "h264"
    crf: int | None = Field(default=None, ge=0, le=63, description="smaller is better")
    width: int = Field(default=640, ge=16, le=16384, description="pixels of a preview")
    columns: int = Field(default=1, ge=1, le=256)
    rows: int = Field(default=1, ge=1, le=256)
    pixel_format: str | None = Field(default=None, pattern="^[a-z0-9]{1,20}$")


class Ffmpeg:
    """One process for each assignment."""

    name: ClassVar[str] = "ffmpeg"
    args: ClassVar[type[Args]] = FfmpegArgs

    def programs(self, work: Work) -> Sequence[Program]:
        """Return one ffmpeg over all inputs."""
        args = work.args
        if not isinstance(args, FfmpegArgs) or not work.inputs:
            raise BadRequest("inputs: missing; there is nothing to encode")
        if work.frames:
            raise BadRequest("work: ffmpeg makes one file of all inputs; ask for work 'single'")
        target = work.target()
        argv = [work.program, "-hide_banner", "-nostdin", "-y", "-v", "error", "-progress", "pipe:1"]
        if work.threads:
            argv += ["-threads", str(work.threads)]
        body = _stack(work, args) if args.op == "stack" else _encode(work, args)
        reader = FfmpegReader(1 if args.op == "stack" else len(work.inputs), target)
        return [Program((*argv, *body, str(target)), reader, {None: target})]


def _encode(work: Work, args: FfmpegArgs) -> list[str]:
    # The frames in the order of the inputs, whatever they are called and whichever are left out.
    pattern = line_up(list(work.inputs.values()), work.folder / "sequence")
    argv = [
        "-xerror",
        "-framerate",
        f"{args.fps:g}",
        "-start_number",
        "0",
        "-i",
        str(pattern),
        *_CODECS[args.codec],
    ]
    if args.crf is not None and args.codec in _CRF:
        argv += ["-crf", str(args.crf)]
    if pixels := args.pixel_format or _PIXELS.get(args.codec):
        argv += ["-pix_fmt", pixels]
    # Chroma that is halved needs even sides.
    width = f"min({args.width},iw)" if args.op == "preview" else "iw"
    argv += ["-vf", f"scale='trunc({width}/2)*2':'trunc(ow/a/2)*2'" if args.op == "preview" else _EVEN]
    if work.output.format.lower() in {"mp4", "mov"}:
        argv += ["-movflags", "+faststart"]
    return argv


_EVEN = "scale='trunc(iw/2)*2':'trunc(ih/2)*2'"


def _stack(work: Work, args: FfmpegArgs) -> list[str]:
    tiles = list(work.inputs.values())
    if len(tiles) != args.columns * args.rows:
        raise BadRequest(f"inputs: {len(tiles)} tiles are not {args.columns} by {args.rows}")
    argv = [part for tile in tiles for part in ("-i", str(tile))]
    steps = []
    for row in range(args.rows):
        labels = "".join(f"[{row * args.columns + column}:v]" for column in range(args.columns))
        steps.append(f"{labels}{_join('hstack', args.columns)}[row{row}]")
    rows = "".join(f"[row{row}]" for row in range(args.rows))
    steps.append(f"{rows}{_join('vstack', args.rows)}[whole]")
    return [*argv, "-filter_complex", ";".join(steps), "-map", "[whole]", "-frames:v", "1", "-update", "1"]


def _join(how: str, count: int) -> str:
    return f"{how}=inputs={count}" if count > 1 else "null"


def line_up(files: Sequence[Path], folder: Path) -> Path:
    """Link files under consecutive numbers, as ffmpeg reads a sequence; returns its pattern.

    Raises:
        BadRequest: they are of several kinds.
    """
    kinds = {file.suffix.lower() for file in files}
    if len(kinds) != 1:
        raise BadRequest(f"inputs: frames of one kind are needed, not {', '.join(sorted(kinds))}")
    suffix = kinds.pop()
    folder.mkdir(exist_ok=True)
    for number, file in enumerate(files):
        (folder / f"{number:08d}{suffix}").symlink_to(file)
    return folder / f"%08d{suffix}"


class FfmpegReader:
    """Reads ``-progress pipe:1`` (key=value lines) and the errors between them."""

    def __init__(self, frames: int, target: Path) -> None:
        self._frames, self._target = frames, target
        self._begun = False
        self._last = ""
        self._trouble: Trouble | None = None

    def line(self, text: str) -> Iterator[Heard]:
        """See :class:`~callboard_nodes.slots.engines.base.Reader`."""
        key, equals, value = text.partition("=")
        if not equals or " " in key:
            self._note(text)
            return
        if not self._begun:
            self._begun = True
            yield Begun(None)
        if key == "frame" and value.strip().isdigit():
            yield Progressed(min(1.0, int(value) / self._frames))
        elif key == "progress" and value.strip() == "end":
            yield Saved(self._target)

    def ended(self, code: int) -> Trouble | None:
        """See :class:`~callboard_nodes.slots.engines.base.Reader`."""
        if code == 0:
            return None
        return killed_by(code) if code < 0 else self._trouble or killed_by(code, self._last)

    def _note(self, text: str) -> None:
        for pattern, fault, code in _ERRORS:
            if self._trouble is None and pattern.search(text):
                self._trouble = Trouble(fault, code, text.strip()[:500])
        self._last = text.strip() or self._last
