"""Parameters of actions: a JSON Schema made of a function's type hints, and the check of a call's arguments."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired

from pydantic import (
    BaseModel,
    ConfigDict,
    JsonValue,
    PydanticSchemaGenerationError,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import TypedDict

from callboard_core.errors import BadPayload, BadRequest
from callboard_core.messages import describe
from callboard_nodes.values import annotation_of

__all__ = ["Parameters"]

#: A parameter of this name, or annotated with a class of this name, receives the running call.
_REQUEST = "request"
#: How the JSON Schema of an array says what it is (see the codec).
ARRAY = Annotated[Any, WithJsonSchema({"contentMediaType": "application/vnd.callboard.array"})]
_LOOSE = ConfigDict(arbitrary_types_allowed=True)


@dataclass(frozen=True)
class Parameters:
    """What a function takes.

    Attributes:
        schema: JSON Schema of ``args``, an object without further properties.
        request: name of the parameter that receives the call itself, if the function has one.
    """

    schema: dict[str, JsonValue]
    request: str | None
    _adapter: TypeAdapter[dict[str, Any]]
    _function: Callable[..., Any]
    _given: Mapping[str, inspect.Parameter]
    _exact: Mapping[str, type]
    _required: frozenset[str]
    _partial: dict[frozenset[str], TypeAdapter[dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Parameters:
        """Read a function's signature.

        Raises:
            BadRequest: a parameter cannot be given by name, or its type has no JSON form.
        """
        given = _signature(function)
        request = next((name for name in given if _is_request(function, name)), None)
        given.pop(request or "", None)
        adapter = _adapter(function, given)
        schema = _schema(function, adapter)
        schema.pop("title", None)
        schema.setdefault("properties", {})
        _add_defaults(schema, given)
        annotations = {name: _annotation(function, name) for name in given}
        exact = {name: kind for name, kind in annotations.items() if kind in _EXACT}
        required = frozenset(name for name, one in given.items() if one.default is one.empty)
        return cls(schema, request, adapter, function, given, exact, required)

    def check(self, args: Mapping[str, JsonValue]) -> Mapping[str, Any]:
        """Return ``args`` as Python values, ready to be passed by name.

        Raises:
            BadPayload: an argument is missing, unknown or wrong; the message names it.
        """
        if self._is_exact(args):
            return args
        binary = {name: value for name, value in args.items() if name in self._given and _has_binary(value)}
        try:
            plain = json.dumps({name: value for name, value in args.items() if name not in binary})
            found = self._adapter_without(frozenset(binary)).validate_json(plain, strict=True)
        except ValidationError as error:
            raise describe(error) from None
        return found | {name: self._check_binary(name, value) for name, value in binary.items()}

    def fill(self, args: Mapping[str, JsonValue], request: object) -> Mapping[str, Any]:
        """Return what to call the function with: as :meth:`check`, and the call itself if it wants that."""
        found = self.check(args)
        return found if self.request is None else {**found, self.request: request}

    def _is_exact(self, args: Mapping[str, JsonValue]) -> bool:
        """Tell whether arguments are what the function wants just as they are, as nearly all are."""
        exact = self._exact
        for name, value in args.items():
            if type(value) is not exact.get(name, _Nothing):
                return False
        return self._required <= args.keys()

    def _adapter_without(self, names: frozenset[str]) -> TypeAdapter[dict[str, Any]]:
        """The check of the other arguments: these hold what JSON cannot."""
        if not names:
            return self._adapter
        if names not in self._partial:
            rest = {name: one for name, one in self._given.items() if name not in names}
            self._partial[names] = _adapter(self._function, rest)
        return self._partial[names]

    def _check_binary(self, name: str, value: Any) -> Any:
        annotation = _annotation(self._function, name)
        try:
            return TypeAdapter(annotation, config=_config(annotation)).validate_python(value)
        except ValidationError as error:
            raise BadPayload(f"{name}: {describe(error).message}", key=name) from None


class _Nothing:
    """The type of nothing that is given."""


#: Annotations that a value of just this type satisfies; it comes from JSON, so that a float is finite.
_EXACT = (str, int, bool, float)


def _signature(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (ValueError, TypeError):
        raise BadRequest(
            f"{function!r} does not tell its parameters; wrap it in a function of your own"
        ) from None


def _is_request(function: Callable[..., Any], name: str) -> bool:
    annotation = annotation_of(function, name)
    return getattr(annotation, "__name__", None) == "Request" or (annotation is None and name == _REQUEST)


def _adapter(
    function: Callable[..., Any], parameters: Mapping[str, inspect.Parameter]
) -> TypeAdapter[dict[str, Any]]:
    fields: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            raise BadRequest(
                f"parameter {parameter} of {function.__name__}() cannot be given by name; "
                "name each argument, or take a list or a dict of them"
            )
        annotation = _annotation(function, name)
        fields[name] = annotation if parameter.default is parameter.empty else NotRequired[annotation]
    record = TypedDict(function.__name__, fields)  # type: ignore[misc]  # made at run time
    record.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
    try:
        return typing.cast("TypeAdapter[dict[str, Any]]", TypeAdapter(record))
    except PydanticSchemaGenerationError as error:
        raise _no_json(function, error) from None


def _schema(function: Callable[..., Any], adapter: TypeAdapter[dict[str, Any]]) -> dict[str, Any]:
    try:
        return adapter.json_schema()
    except PydanticInvalidForJsonSchema as error:
        raise _no_json(function, error) from None


def _no_json(function: Callable[..., Any], error: Exception) -> BadRequest:
    what = str(error).partition("\n")[0].partition(".")[0]
    return BadRequest(f"{function.__name__}(): a parameter's type has no JSON form: {what}")


def _annotation(function: Callable[..., Any], name: str) -> Any:
    """A parameter's type; an array's stands for what the codec makes of it."""
    annotation = annotation_of(function, name)
    if annotation is None:
        return Any
    return ARRAY if _is_array(annotation) else annotation


def _is_array(annotation: Any) -> bool:
    """True for ``numpy.ndarray`` and ``numpy.typing.NDArray[…]``, which are known without importing numpy."""
    one = typing.get_origin(annotation) or annotation
    return getattr(one, "__module__", "") == "numpy" and getattr(one, "__name__", "") == "ndarray"


def _config(annotation: Any) -> ConfigDict | None:
    return None if isinstance(annotation, type) and issubclass(annotation, BaseModel) else _LOOSE


def _has_binary(value: Any) -> bool:
    match value:
        case None | bool() | int() | float() | str():
            return False
        case dict():
            return any(map(_has_binary, value.values()))
        case list():
            return any(map(_has_binary, value))
    return True


def _add_defaults(schema: dict[str, Any], parameters: Mapping[str, inspect.Parameter]) -> None:
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty:
            continue
        try:
            default = to_jsonable_python(parameter.default)
            json.dumps(default, allow_nan=False)
        except (PydanticSerializationError, ValueError):
            continue  # a form shows no default then; the function still has it
        schema["properties"][name]["default"] = default
