"""Writes a software bill of materials (CycloneDX JSON): what Callboard asks for itself, as it is installed here.

Usage: python tools/sbom.py sbom.cdx.json
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NAME = "callboard"
#: What is only used to develop it is not part of it.
LEFT_OUT = {"dev"}
_EXTRA = re.compile(r"""extra\s*==\s*['"]([\w.-]+)['"]""")
#: Classifiers that mean exactly one licence, as SPDX calls it.
_SPDX = {"MIT License": "MIT", "Apache Software License": "Apache-2.0"}
_LICENSES = LicenseFactory()


def requirements() -> Iterator[tuple[Requirement, str]]:
    """Yield every dependency of ours and the extra that asks for it, empty for the base."""
    for text in distribution(NAME).requires or []:
        wanted = Requirement(text)
        found = _EXTRA.search(str(wanted.marker or ""))
        extra = found[1] if found else ""
        if canonicalize_name(wanted.name) != NAME and extra not in LEFT_OUT:
            yield wanted, extra


def make_bom() -> Bom:
    """Return the bill: one component for each dependency that is installed here."""
    bom = Bom()
    bom.metadata.component = root = component(distribution(NAME), ComponentType.APPLICATION)
    extras: dict[str, set[str]] = {}
    for wanted, extra in requirements():
        extras.setdefault(canonicalize_name(wanted.name), set()).add(extra or "base")
    for name, asked_by in sorted(extras.items()):
        try:
            made = component(distribution(name), ComponentType.LIBRARY)
        except PackageNotFoundError:  # not for this kind of machine
            continue
        made.properties.add(Property(name="callboard:extras", value=",".join(sorted(asked_by))))
        bom.components.add(made)
    bom.register_dependency(root, bom.components)
    return bom


def component(package: Distribution, kind: ComponentType) -> Component:
    """Return an installed package with version, licence and address."""
    name = canonicalize_name(package.name)
    purl = PackageURL("pypi", name=name, version=package.version)
    made = Component(name=name, version=package.version, type=kind, purl=purl, bom_ref=purl.to_string())
    said = license_of(package)
    made.licenses.add(_LICENSES.make_from_string(said) if said else License(name="not stated"))
    page = package.metadata.get("Home-page") or ""
    if page.startswith("http"):
        made.external_references.add(ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(page)))
    return made


def license_of(package: Distribution) -> str:
    """Return what a package says: its SPDX expression, else its classifier, else the first line of its text."""
    expression = package.metadata.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = package.metadata.get_all("Classifier") or []
    found = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License :: ")]
    text = (package.metadata.get("License") or "").strip().partition("\n")[0]
    return text if 0 < len(text) <= 60 else ", ".join(_SPDX.get(each, each) for each in found)  # noqa: PLR2004 - a name, not the licence itself


def main(target: str) -> None:
    """Write the bill to ``target``."""
    Path(target).write_text(JsonV1Dot6(make_bom()).output_as_string(indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
