"""The written reference is what the code says, and its schemas and AsyncAPI document are valid."""

import gzip
import json
import re
import runpy
import sys
from pathlib import Path

import jsonschema
import pytest

from callboard_core import reference
from callboard_core.errors import ERRORS
from callboard_core.messages import Batch, Call, Reading, State, Status
from callboard_core.reference.asyncapi import document
from callboard_core.reference.channels import CHANNELS, EXAMPLES
from callboard_core.reference.schemas import file_name, key_type, schema_of
from callboard_core.settings import Settings, load_settings
from callboard_core.topics import Address, Kind, Leaf

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs" / "reference"
FILES = reference.files()
MODELS = pytest.mark.parametrize("model", EXAMPLES, ids=lambda model: model.__name__)


@pytest.mark.parametrize("path", FILES)
def test_the_committed_reference_is_what_the_code_says(path):
    assert (FOLDER / path).read_text(encoding="utf-8") == FILES[path], "run: make docs"


def test_no_schema_is_left_over():
    assert {f"schemas/{file.name}" for file in (FOLDER / "schemas").iterdir()} <= set(FILES)


def test_writing_the_reference_deletes_what_is_left_over(tmp_path, monkeypatch):
    old = tmp_path / "schemas" / "old.json"
    old.parent.mkdir()
    old.touch()
    monkeypatch.setattr(sys, "argv", ["reference", str(tmp_path)])
    runpy.run_module("callboard_core.reference", run_name="__main__")
    written = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert written == set(FILES)


@MODELS
def test_each_schema_is_valid_and_accepts_its_example(model):
    schema = schema_of(model)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(EXAMPLES[model].encode()), schema)


@MODELS
def test_each_schema_accepts_keys_of_a_later_version(model):
    jsonschema.validate(json.loads(EXAMPLES[model].encode()) | {"x-later": 1}, schema_of(model))


@MODELS
def test_each_schema_demands_its_required_keys(model):
    schema = schema_of(model)
    example = json.loads(EXAMPLES[model].encode())
    for key in schema.get("required", []):
        with pytest.raises(jsonschema.ValidationError, match=f"'{key}' is a required property"):
            jsonschema.validate({name: held for name, held in example.items() if name != key}, schema)


@pytest.mark.parametrize(
    ("model", "payload"),
    [
        (Status, {"status": "up", "epoch": 1, "t": 1}),
        (Status, {"status": "ready", "epoch": -1, "t": 1}),
        (Status, {"status": "ready", "epoch": 1, "t": "now"}),
        (Reading, {"v": {}, "t": 1}),
        (Reading, {"v": None, "t": 1}),
        (State, {"v": [], "t": 1}),
        (Batch, {"t": [], "v": []}),
        (Call, {"id": "", "args": {}}),
        (Call, {"id": "x", "args": []}),
        *[(model, {**json.loads(EXAMPLES[model].encode()), "name": "A b"}) for model in EXAMPLES if "Card" in model.__name__],
    ],
)  # fmt: skip
def test_the_schemas_reject_what_the_code_rejects(model, payload):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(payload, schema_of(model))
    with pytest.raises(Exception, match=r"."):
        model.model_validate(payload)


def test_the_asyncapi_document_is_valid():
    vendored = ROOT / "tests" / "data" / "asyncapi-3.0.0.schema.json.gz"
    official = json.loads(gzip.decompress(vendored.read_bytes()))
    jsonschema.Draft7Validator(official).validate(document())


def test_every_reference_in_the_asyncapi_document_leads_somewhere():
    made = document()
    for path in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(made)):
        part = made
        for step in path.split("/"):
            assert step in part, path
            part = part[step]


def test_the_asyncapi_document_says_how_each_topic_is_published():
    operations = document()["operations"]
    said = {name: operation["bindings"]["mqtt"] for name, operation in operations.items()}
    assert said["status"]["retain"] is True
    assert said["command"] == {"qos": 1, "retain": False, "bindingVersion": "0.2.0"}
    assert operations["command"]["action"] == "receive"
    assert operations["reply"]["action"] == "send"


def test_every_leaf_of_the_tree_is_described():
    filled = {
        channel.topic.format(site="site", node="node", client="client", kind=Kind.SENSOR, name="name")
        for channel in CHANNELS
    }
    assert {Address.parse(topic).leaf for topic in filled} == set(Leaf)


def test_the_topics_page_tells_every_payload_and_error_code():
    page = FILES["topics.md"]
    assert all(f"schemas/{file_name(model)}" in page for model in EXAMPLES)
    assert all(f"`{code}`" in page for code in ERRORS)
    anchors = {line[4:].lower() for line in page.splitlines() if line.startswith("### ")}
    assert set(re.findall(r"\(#([a-z]+)\)", page)) <= anchors


def test_the_settings_page_tells_every_setting():
    page = FILES["settings.md"]
    for key in load_settings(env={}).sources:
        assert f"| `{key}` | `CALLBOARD_{key.upper().replace('.', '_')}` |" in page


def test_the_settings_page_is_the_same_on_every_machine(monkeypatch, tmp_path):
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert reference.files()["settings.md"] == FILES["settings.md"]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "text"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text"),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}, {"type": "string"}]}, "number or text"),
        ({"type": "array", "items": {"type": "integer"}}, "list of whole number"),
        ({"enum": ["a", "b"]}, "`a` · `b`"),
        ({"const": 1}, "`1`"),
        ({"$ref": "#/$defs/Level"}, "`a`"),
        ({"$ref": "#/$defs/Host"}, "Host"),
        ({"$ref": "#/$defs/JsonValue"}, "any JSON"),
        ({}, "any JSON"),
    ],
)
def test_types_are_told_in_words(schema, words):
    parts = {"Level": {"enum": ["a"], "type": "string"}, "Host": {"type": "object"}, "JsonValue": {}}
    assert key_type(schema, parts) == words


def test_the_settings_schema_is_valid_too():
    jsonschema.Draft202012Validator.check_schema(Settings.model_json_schema())
