"""Fixtures that several test folders share; each lives in a support module."""

from support.engines import embedded, engine, unique

__all__ = ["embedded", "engine", "unique"]
