"""Proxies: a service and the services under its name, used like an object."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from functools import partial
from inspect import Parameter, Signature
from keyword import iskeyword
from typing import Any, Protocol

from callboard_core.calls.names import check_service, field_of
from callboard_core.calls.pool import TIMEOUT, Pool
from callboard_core.cards import WorkerCard
from callboard_core.errors import BadPayload, BadRequest
from callboard_core.view import Entry

__all__ = ["Method", "Proxy"]

#: Seconds that ``await directory.proxy(…)`` waits for somebody to offer it.
READY = 10.0
#: How types of JSON Schema are called in Python.
_TYPES: dict[object, Any] = {
    "string": str,
    "number": float,
    "integer": int,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": None,
}


class Makes(Protocol):
    """What is needed of a directory."""

    def borrow(self, service: str | re.Pattern[str]) -> Pool:
        """A pool, to be given back."""

    def give_back(self, service: str | re.Pattern[str], pool: Pool) -> None:
        """Take a pool back."""

    def find(self, service: str | None = None, *, kind: str, live: bool) -> list[Entry]:
        """Entries."""


class Method:
    """One service, called like a function; ``submit`` and ``cast`` don't wait.

    The settings of a call are given apart from its arguments: ``camera.take_picture.with_(timeout=2)(exposure=0.1)``.
    ``inspect.signature`` tells what it takes, while somebody offers it.
    """

    def __init__(self, pool: Callable[[], Pool], timeout: float = TIMEOUT) -> None:
        self._pool, self._timeout = pool, timeout

    def __call__(self, /, **args: Any) -> Any:
        """Call and wait; on an event loop's thread: return something to await. Raises as :meth:`Pool.call`."""
        return self._pool().call(args, timeout=self._timeout)

    def submit(self, /, **args: Any) -> Future[Any]:
        """Call and return a future."""
        return self._pool().submit(args, timeout=self._timeout)

    def cast(self, /, **args: Any) -> Future[None]:
        """Call without wanting an answer."""
        return self._pool().cast(args, timeout=self._timeout)

    def scatter(self, /, **args: Any) -> Any:
        """Call everybody who offers it."""
        return self._pool().scatter(args, timeout=self._timeout)

    def __getattr__(self, name: str) -> Any:
        if name == "__signature__" and (card := self.schema) is not None:
            return _signature(card)
        raise AttributeError(name)

    def with_(self, *, timeout: float) -> Method:
        """Return the same method with a time-out of so many seconds."""
        return Method(self._pool, timeout)

    @property
    def schema(self) -> WorkerCard | None:
        """The card of a worker that offers it, with the JSON Schemas of its parameters and result."""
        return self._pool().card()


class Proxy:
    """What is offered under a name: ``name`` itself is called, ``name:field`` is a method or an attribute.

    ``camera = directory.proxy("camera-1")``, then ``camera.take_picture(exposure=0.1)`` calls the service
    ``camera-1:take-picture``, ``camera.exposure`` reads a declared attribute and ``camera.exposure = 0.2`` sets it.
    ``await directory.proxy("camera-1")`` waits until it is there. On an event loop's thread every call, and reading
    an attribute, gives something to await; set attributes there with ``await camera.set(exposure=0.2)``.
    """

    def __init__(self, directory: Makes, name: str) -> None:
        object.__setattr__(self, "_directory", directory)
        object.__setattr__(self, "_name", check_service(name))
        object.__setattr__(self, "_lock", threading.Lock())
        object.__setattr__(self, "_pools", {})

    def __call__(self, /, **args: Any) -> Any:
        """Call the service of this very name."""
        return self.method("")(**args)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        method = self.method(name)
        card = self._card(name)
        return method() if card is not None and card.attribute else method

    def __setattr__(self, name: str, value: Any) -> None:
        self.set(**{name: value})

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(one.replace("-", "_") for one in self.fields())})

    def __repr__(self) -> str:
        return f"<proxy of {self._name}>"

    def __await__(self) -> Generator[Any, None, Proxy]:
        yield from self._everything().wait_ready(READY, members=None).__await__()
        return self

    def wait_ready(self, timeout: float = READY) -> Any:
        """Wait until somebody offers it, with all of its parts; on an event loop's thread, await what it returns.

        Args:
            timeout: seconds.

        Raises:
            TimedOut: nobody does.
        """
        return self._everything().wait_ready(timeout, members=None)

    def method(self, name: str) -> Method:
        """Return a method by its Python name, or this very service for an empty one."""
        service = f"{self._name}:{field_of(name)}" if name else self._name
        return Method(partial(self._pool, service))

    def get(self, attribute: str) -> Any:
        """Read an attribute."""
        return self.method(attribute)()

    def set(self, /, **attributes: Any) -> Any:
        """Set one attribute; returns the value in force.

        Raises:
            BadRequest: not exactly one was given, or it cannot be set.
        """
        if len(attributes) != 1:
            raise BadRequest("set one attribute at a time")
        [(name, value)] = attributes.items()
        card = self._card(name)
        if card is not None and "value" not in _properties(card):
            what = "can only be read" if card.attribute else "is a method, not an attribute"
            raise BadPayload(f"{name}: {self._name} has it, but it {what}", key=name)
        return self.method(name)(value=value)

    def fields(self) -> list[str]:
        """The methods and attributes that are offered now."""
        start = f"{self._name}:"
        return sorted({one.removeprefix(start) for one in self._services() if one.startswith(start)})

    def close(self) -> None:
        """Follow nothing any more; what others use of it goes on. It begins anew when it is used again."""
        with self._lock:
            pools = list(self._pools.items())
            self._pools.clear()
        for service, pool in pools:
            self._directory.give_back(service, pool)

    def _services(self) -> list[str]:
        found = self._directory.find(kind="worker", live=True)
        return [one.card.service for one in found if isinstance(one.card, WorkerCard)]

    def _card(self, name: str) -> WorkerCard | None:
        """The card of a field that is offered. Looking makes no pool: whoever asks for a name may only wonder."""
        service = f"{self._name}:{field_of(name)}"
        pool = self._pools.get(service)
        if pool is not None and not pool.closed:
            found: WorkerCard | None = pool.card()
            return found
        cards = [one.card for one in self._directory.find(service, kind="worker", live=True)]
        return next((card for card in cards if isinstance(card, WorkerCard)), None)

    def _everything(self) -> Pool:
        name = self._name.replace(".", r"\.")  # which alone means something; people read the rest
        return self._pool(re.compile(f"{name}(:.*)?"))

    def _pool(self, service: str | re.Pattern[str]) -> Pool:
        with self._lock:
            pool: Pool | None = self._pools.get(service)
            if pool is None or pool.closed:
                pool = self._pools[service] = self._directory.borrow(service)
            return pool


def _properties(card: WorkerCard) -> Mapping[str, Any]:
    """The schema of each parameter; none if the card does not tell."""
    found: Any = card.parameters.get("properties", {})
    return found if isinstance(found, Mapping) else {}


def _signature(card: WorkerCard) -> Signature:
    """What a worker takes and returns, as its card says; parameters without a Python name are left out."""
    required: Any = card.parameters.get("required", ())
    found = [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if name in required else part.get("default"),
            annotation=_type(part),
        )
        for name, part in _properties(card).items()
        if isinstance(part, Mapping) and name.isidentifier() and not iskeyword(name)
    ]
    return Signature(found, return_annotation=_type(card.result))


def _type(schema: Mapping[str, Any]) -> Any:
    kind = schema.get("type")
    return _TYPES.get(kind, Any) if isinstance(kind, str) else Any
