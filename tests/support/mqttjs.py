"""MQTT.js as browsers load it: one file, fetched once with npm at the version that package.json names."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

_PACKAGE = Path(__file__).parents[1] / "integration/mqttjs/package.json"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "callboard-tests"


def bundle() -> Path:
    """Path of `mqtt.min.js`."""
    version = json.loads(_PACKAGE.read_text())["dependencies"]["mqtt"]
    kept = _CACHE / f"mqtt-{version}.min.js"
    if not kept.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "pack", "--silent", f"mqtt@{version}"],
            cwd=_CACHE,
            check=True,
            capture_output=True,
            timeout=100,
        )
        with tarfile.open(_CACHE / f"mqtt-{version}.tgz") as archive:
            script = archive.extractfile("package/dist/mqtt.min.js")
            assert script is not None
            kept.write_bytes(script.read())
    return kept
