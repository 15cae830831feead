"""The files that the login page and the console are drawn with; a fixed set, so that no name can surprise."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response

__all__ = ["PATHS", "STATIC", "asset"]

STATIC = files("callboard_console.web") / "static"
_FOLDER = "/assets/"
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_NAMES = frozenset(found.name for found in STATIC.iterdir() if found.name.rpartition(".")[2] in _TYPES)
_FONT = "source-sans.woff2"

#: The paths that answer, session or not.
PATHS = frozenset(_FOLDER + name for name in (*_NAMES, _FONT))


async def asset(request: Request) -> Response:
    """Serve one of them."""
    name = request.path_params["name"]
    if name == _FONT:
        return FileResponse(_font(), headers={"Cache-Control": "max-age=86400"})
    if name not in _NAMES:
        return PlainTextResponse("no such file\n", status_code=404)
    kind = _TYPES[name.rpartition(".")[2]]
    return Response((STATIC / name).read_bytes(), media_type=kind, headers={"Cache-Control": "no-cache"})


@cache
def _font() -> Path:
    """The typeface that Streamlit brings along, for the login page too."""
    media = Path(str(files("streamlit"))) / "static" / "static" / "media"
    return next(media.glob("SourceSansVF-Upright*.woff2"), media / "missing")
