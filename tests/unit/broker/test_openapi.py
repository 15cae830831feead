"""The OpenAPI document stays valid whatever nodes write into their cards' schemas."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from callboard_broker.http.openapi import sound, with_services
from callboard_broker.services.pools import Service
from callboard_core.cards import WorkerCard

GOOD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "x": {"type": "integer", "minimum": 0},
        "how": {"anyOf": [{"$ref": "#/$defs/How"}, {"type": "null"}]},
    },
    "required": ["x"],
    "$defs": {"How": {"enum": ["fast", "slow"]}},
}
BAD: dict[str, Any] = {
    "type": "banana",
    "properties": {"a": 3, "b": {"type": ["string", "string"]}, "c": {"$ref": "https://example.org/evil"}},
    "required": "x",
    "pattern": "(",
    "minLength": -1,
    "items": [1],
    "anyOf": {},
    "enum": [],
    "$defs": {"bad name!": {}, "D": "no"},
    "x-anything": {"$ref": "nowhere"},
}
deep: dict[str, Any] = {}
for _ in range(200):
    deep = {"items": deep}


def service(name: str, parameters: dict[str, Any]) -> Service:
    return Service(name, WorkerCard(name="w", epoch=1, service=name, parameters=parameters))


def document(*services: Service) -> dict[str, Any]:
    return with_services({"openapi": "3.1.0", "paths": {"/x": {}}, "components": {}}, services)


def test_a_services_schemas_are_taken_over_under_names_of_their_own() -> None:
    found = document(service("a:b", GOOD), service("a.b", GOOD))
    schemas = found["components"]["schemas"]
    assert "/x" in found["paths"]
    assert len([name for name in schemas if name.endswith("_parameters.How")]) == 2
    how = found["paths"]["/api/v1/services/a:b"]["get"]["parameters"][1]["schema"]
    assert how == {"anyOf": [{"$ref": "#/components/schemas/service_a_b_parameters.How"}, {"type": "null"}]}


@pytest.mark.parametrize(
    "schema", [GOOD, BAD, {"$ref": "#"}, {"properties": {"x": BAD}}, deep, {"items": deep}]
)
def test_what_is_left_of_any_schema_is_one(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(sound(schema))
    schemas = document(service("odd", schema))["components"]["schemas"]
    for one in schemas.values():
        jsonschema.Draft202012Validator.check_schema(one)


def test_what_is_no_schema_is_an_empty_one() -> None:
    assert sound(3) == sound("x") == sound(None) == sound([]) == {}
    assert sound(False) is False
    assert sound(BAD) == {"properties": {"a": {}, "b": {}, "c": {}}}
