"""Fixtures that several test folders share, each from a support module; and how hypothesis works on a busy machine."""

from hypothesis import HealthCheck, settings

from support.engines import embedded, engine, unique

__all__ = ["embedded", "engine", "unique"]

# How long an example takes says nothing where others use the processor as well.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
