"""Tests that need root: skipped on a developer's machine, but never unseen where everything has to run."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

__all__ = ["cannot", "must_run", "needs_root"]


def must_run() -> bool:
    """True where a test that cannot run is a failure: with ``CI=true`` in the environment."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def cannot(why: str) -> NoReturn:
    """Skip the test; fail it where everything has to run."""
    if must_run():
        pytest.fail(f"{why} (CI is set, so this must not be skipped)", pytrace=False)
    pytest.skip(why)


#: For tests that mount or make network namespaces. With ``CI=true`` they run, and fail without root.
needs_root = pytest.mark.skipif(os.geteuid() != 0 and not must_run(), reason="needs root")
