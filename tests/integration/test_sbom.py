"""The bill of materials: valid CycloneDX, and nothing that we ask for is missing in it."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("sbom") / "sbom.cdx.json"
    subprocess.run([sys.executable, ROOT / "tools" / "sbom.py", file], check=True, timeout=60)
    return file.read_text(encoding="utf-8")


def test_it_is_valid_by_the_schema_of_the_standard(bill: str):
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None


def test_it_names_every_dependency_with_the_version_that_is_installed_and_a_licence(bill: str):
    told = json.loads(bill)
    found = {one["name"]: one for one in told["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {
        name: wanted
        for name, wanted in project["optional-dependencies"].items()
        if name not in {"dev", "all"}
    }
    wanted = [Requirement(text) for texts in (project["dependencies"], *extras.values()) for text in texts]
    names = {canonicalize_name(one.name) for one in wanted if one.marker is None or one.marker.evaluate()}
    assert names == found.keys()
    assert {name: one["version"] for name, one in found.items()} == {name: version(name) for name in names}
    assert [name for name, one in found.items() if not one.get("licenses")] == []
    assert not {"pytest", "ruff"} & found.keys()
    assert told["metadata"]["component"]["version"] == project["version"]
