"""Finds job types: ours, and the small Python files in a folder of the board, which may change while it runs."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import types
from collections.abc import Iterable
from pathlib import Path

from callboard_broker.services.farm.jobtypes.spec import JobSettings, JobType, culprit
from callboard_core.errors import BadRequest, NotFound

__all__ = ["BUILT_IN", "JobTypes", "load_job_types"]

#: Modules of this package that are job types.
BUILT_IN = ("render", "render_video", "simulate_render", "tiles", "command")

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_TEMPLATE = "see docs/howto/jobs.md for how a job type is written"
_Mark = tuple[int, int]


class JobTypes:
    """The job types there are. Files of the folder are read again when they have changed.

    Args:
        folder: where other people's lie; it need not exist. What lies there runs in the board's process.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._ours = {made.name: made for made in map(_built_in, BUILT_IN)}
        self._theirs: dict[str, tuple[_Mark, JobType | str]] = {}
        self._refresh()

    @property
    def broken(self) -> dict[str, str]:
        """What is wrong with the files that cannot be used: name → file, line and error."""
        self._refresh()
        return {name: found for name, (_, found) in self._theirs.items() if isinstance(found, str)}

    def all(self) -> list[JobType]:
        """Return those that can be used, by name."""
        self._refresh()
        theirs = {name: found for name, (_, found) in self._theirs.items() if isinstance(found, JobType)}
        return sorted({**self._ours, **theirs}.values(), key=lambda one: one.name)

    def get(self, name: str) -> JobType:
        """Return a job type by name.

        Raises:
            NotFound: there is none; the message tells those there are.
            BadRequest: its file cannot be used; the message names file and line.
        """
        name = name.replace("_", "-")
        self._refresh()
        found = self._theirs[name][1] if name in self._theirs else self._ours.get(name)
        if found is None:
            known = ", ".join(one.name for one in self.all())
            raise NotFound(f"job type {name!r} is unknown; there are {known}")
        if isinstance(found, str):
            raise BadRequest(f"job type {name!r} cannot be used: {found}")
        return found

    def _refresh(self) -> None:
        seen: dict[str, tuple[_Mark, JobType | str]] = {}
        for file in self._files():
            try:
                mark = _mark(file)
            except OSError:
                continue
            name = file.stem.replace("_", "-")
            known = self._theirs.get(name)
            seen[name] = known if known is not None and known[0] == mark else (mark, self._read(name, file))
        self._theirs = seen

    def _files(self) -> Iterable[Path]:
        if self._folder is None or not self._folder.is_dir():
            return ()
        return sorted(file for file in self._folder.glob("*.py") if not file.name.startswith((".", "_")))

    def _read(self, name: str, file: Path) -> JobType | str:
        if name in self._ours:
            return f"{file}: the name is taken by one that comes with Callboard; rename the file"
        if not _NAME.fullmatch(name):
            return f"{file}: a job type's file is named with a-z, 0-9, '-' and '_'"
        try:
            return _from_file(name, file)
        except BadRequest as error:
            return error.message


def load_job_types(folder: Path | None = None) -> JobTypes:
    """Return our job types and those of a folder. A broken file keeps none of the others from being used."""
    return JobTypes(folder)


def _mark(file: Path) -> _Mark:
    stat = file.stat()
    return stat.st_mtime_ns, stat.st_size


def _built_in(name: str) -> JobType:
    module = importlib.import_module(f"{__package__}.{name}")
    return _job_type(name.replace("_", "-"), module, None)


def _from_file(name: str, file: Path) -> JobType:
    """Run a file in a module of its own, without leaving compiled files beside it.

    Raises:
        BadRequest: it cannot be read, does not run, or lacks what a job type needs.
    """
    module = types.ModuleType(f"callboard_jobtype_{name.replace('-', '_')}")
    module.__file__ = str(file)
    try:
        code = compile(file.read_text(encoding="utf-8"), str(file), "exec")
        exec(code, module.__dict__)  # noqa: S102 - the board's owner put it there to be run
    except Exception as error:
        raise BadRequest(culprit(error, file)) from error
    return _job_type(name, module, file)


def _job_type(name: str, module: types.ModuleType, file: Path | None) -> JobType:
    settings, tasks = getattr(module, "Settings", None), getattr(module, "tasks", None)
    if not (isinstance(settings, type) and issubclass(settings, JobSettings)):
        raise BadRequest(f"{_where(file, 'Settings')}: a class Settings(JobSettings) is missing; {_TEMPLATE}")
    if not callable(tasks) or _positional(tasks) != ["job", "settings"]:
        raise BadRequest(f"{_where(file, 'tasks')}: a function tasks(job, settings) is missing; {_TEMPLATE}")
    _make_complete(settings, module, file)
    label, _, description = inspect.cleandoc(module.__doc__ or name).partition("\n")
    return JobType(name, label, description.strip(), settings, tasks, file)


def _make_complete(settings: type[JobSettings], module: types.ModuleType, file: Path | None) -> None:
    """Resolve annotations that are texts (``from __future__ import annotations``) by the file's own names."""
    try:
        settings.model_rebuild(_types_namespace=module.__dict__)
        settings.model_json_schema()
    except Exception as error:
        raise BadRequest(f"{_where(file, 'Settings')}: {type(error).__name__}: {error}") from error


def _positional(tasks: object) -> list[str]:
    return list(inspect.signature(tasks).parameters) if callable(tasks) else []


def _where(file: Path | None, name: str) -> str:
    """The file and, if ``name`` is defined in it, the line of that."""
    if file is None:
        return name
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return f"{file} line {node.lineno}"
    return str(file)
