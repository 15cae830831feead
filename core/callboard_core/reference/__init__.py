"""The written reference, made from the code's own models so that the two cannot differ.

``python -m callboard_core.reference docs/reference`` writes it: the topics with their payloads and the settings as
Markdown, a JSON Schema per payload, and an AsyncAPI 3.0 document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from callboard_core.reference.asyncapi import document
from callboard_core.reference.channels import EXAMPLES
from callboard_core.reference.schemas import file_name, schema_of
from callboard_core.reference.settings import settings_page
from callboard_core.reference.topics import topics_page

__all__ = ["files", "write"]


def files() -> dict[str, str]:
    """Every file of the reference: path below its folder → content."""
    schemas = {f"schemas/{file_name(model)}": _json(schema_of(model)) for model in EXAMPLES}
    return {
        "topics.md": topics_page(),
        "settings.md": settings_page(),
        "asyncapi.json": _json(document()),
        **schemas,
    }


def write(folder: Path) -> None:
    """Write the reference, and delete schemas of payloads that no longer exist."""
    wanted = files()
    for path, content in wanted.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    for old in (folder / "schemas").glob("*.json"):
        if f"schemas/{old.name}" not in wanted:
            old.unlink()


def _json(content: Mapping[str, object]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
