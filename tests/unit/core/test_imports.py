"""The language of the house is quick to import: nothing heavy comes with the package itself."""

from __future__ import annotations

import subprocess
import sys


def test_the_package_brings_nothing_heavy_along() -> None:
    code = (
        "import sys, callboard_core; "
        "print([m for m in ('asyncio', 'paho', 'pydantic', 'ssl', 'logging') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
