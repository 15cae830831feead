"""Publishing what is to go to nodes: files are sent to the board's artifacts, and the board signs what they are."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callboard_console.cli.board_http import path
from callboard_core.errors import BadRequest

if TYPE_CHECKING:
    from callboard_console.cli.board_http import BoardApi

__all__ = ["publish", "release", "send_files"]


def send_files(
    api: BoardApi, files: Iterable[Path], targets: Mapping[Path, str] | None = None
) -> list[dict[str, Any]]:
    """Send files to the board, and return what a manifest says of them.

    Args:
        api: the board.
        files: what to send; what the board has already is not sent again.
        targets: where some of them go on the node.

    Raises:
        BadRequest: one is no file.
    """
    from callboard_console.cli.transfers import Transfers

    found = []
    with api.artifacts() as artifacts, Transfers("send") as bars:
        for file in files:
            if not file.is_file():
                raise BadRequest(f"{file} is no file")
            ref = artifacts.put_file(file, progress=bars.of(file.name))
            target = (targets or {}).get(file, "")
            found.append({"name": file.name, "sha256": ref.sha256, "size": ref.size, "path": target})
    return found


def publish(api: BoardApi, kind: str, files: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Have the board number and sign it; returns what was published."""
    found: dict[str, Any] = api.post(path("updates", "manifests"), {"kind": kind, "files": files, **more})
    return found


def release(api: BoardApi, wheels: list[Path], note: str, within: float) -> dict[str, Any]:
    """Return the release to send: one of the wheels given, else the newest one, else one of what runs here.

    Wheels that are not given are those of the release before, or packed from what is installed here.
    """
    from packaging.version import Version

    newest = api.get(path("updates", "manifests"), kind="release", limit=1)["items"]
    own = _own_version()
    if not wheels and newest and Version(newest[0]["version"]) >= Version(own):
        return dict(newest[0])
    if wheels:
        files = send_files(api, wheels)
        files = _with_others(files, newest[0]["files"] if newest else _packed(api))
    else:
        print(f"publishing callboard {own} as it is installed here", file=sys.stderr)
        files = _packed(api)
    return publish(
        api, "release", files, version=_version_of(files), python=">=3.11", note=note, within=within
    )


def _packed(api: BoardApi) -> list[dict[str, Any]]:
    """Wheels of what runs here; they fit machines like this one."""
    import tempfile

    from callboard_core.wheels import gather

    with tempfile.TemporaryDirectory(prefix="callboard-wheels-") as folder:
        return send_files(api, gather(Path(folder)))


def _with_others(files: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the wheels of distributions that are not among those given."""
    given = {_distribution(one["name"]) for one in files}
    return [*files, *(one for one in others if _distribution(one["name"]) not in given)]


def _distribution(name: str) -> str:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        return parse_wheel_filename(name)[0]
    except InvalidWheelFilename:
        raise BadRequest(f"{name} is no wheel; a release is made of wheels (.whl)") from None


def _version_of(files: list[dict[str, Any]]) -> str:
    from packaging.utils import parse_wheel_filename

    for one in files:
        if _distribution(one["name"]) == "callboard":
            return str(parse_wheel_filename(one["name"])[1])
    raise BadRequest("there is no wheel of callboard among those; build one with `pip wheel --no-deps .`")


def _own_version() -> str:
    from importlib.metadata import version

    return version("callboard")
