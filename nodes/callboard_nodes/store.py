"""Values of controls that outlive the process: one small JSON file, replaced as a whole."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

from callboard_core.messages import Value

__all__ = ["ControlStore"]

_log = logging.getLogger(__name__)


class ControlStore:
    """Keeps the last value of each control.

    A file that cannot be read is set aside (``controls.json.corrupt``) and the controls start afresh.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._values: dict[str, Value] = self._load()

    def get(self, name: str) -> Value | None:
        """Return the stored value, or ``None``."""
        return self._values.get(name)

    def put(self, name: str, value: Value) -> None:
        """Store a value so that it survives the end of the process.

        It is not forced to the disk: a set must be answered in milliseconds and an SD card takes longer. File
        systems write a replaced file out within seconds; a power cut before that restores the value before.

        Raises:
            OSError: it could not be written; the value is kept in memory.
        """
        with self._lock:
            if self._values.get(name) == value and type(self._values.get(name)) is type(value):
                return
            self._values[name] = value
            self._save()

    def _load(self) -> dict[str, Value]:
        try:
            found = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            return self._set_aside(str(error))
        if not isinstance(found, dict):
            return self._set_aside("it is not a JSON object")
        return {name: value for name, value in found.items() if isinstance(value, bool | int | float | str)}

    def _set_aside(self, why: str) -> dict[str, Value]:
        aside = self._path.with_name(self._path.name + ".corrupt")
        _log.warning(
            "the stored values of controls in %s cannot be read (%s); kept as %s", self._path, why, aside
        )
        try:
            self._path.replace(aside)
        except OSError:
            _log.exception("cannot set %s aside", self._path)
        return {}

    def _save(self) -> None:
        fresh = self._path.with_name(self._path.name + ".new")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(self._values, ensure_ascii=False, indent=1), "utf-8")
        fresh.replace(self._path)
