"""Functions for workers that run in processes of their own: those must be importable."""

from __future__ import annotations

import os
import time


def square(n: int) -> int:
    return n * n


def pid() -> int:
    return os.getpid()


def nap(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def crash() -> None:
    os._exit(3)


def stumble(text: str) -> None:
    raise LookupError(text)
