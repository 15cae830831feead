"""The how-to pages for nodes: what they show is what works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from callboard_core.settings import load_settings
from callboard_nodes import hardware
from callboard_nodes.slots import configured

HOWTO = Path(__file__).parents[3] / "docs" / "howto"


def snippets(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (HOWTO / page).read_text("utf-8"), re.DOTALL)


def test_the_declared_hardware_is_read_without_hardware(tmp_path):
    (table,) = snippets("hardware.md", "toml")
    file = tmp_path / "callboard.toml"
    file.write_text(table)
    settings = load_settings(file=file, env={"CALLBOARD_STATE": str(tmp_path)}).value
    made = {one.card.name: one for one in hardware.things(settings.sensors, settings.controls)}
    assert list(made) == [
        "attic-temperature",
        "attic-humidity",
        "attic-pressure",
        "freezer",
        "soil",
        "door",
        "pump",
    ]
    assert all(one.read() is not None for one in made.values() if one.kind == "sensor")


@pytest.mark.parametrize("page", ["node-sdk.md", "hardware.md"])
def test_every_program_on_the_page_is_python(page):
    for number, code in enumerate(snippets(page, "python")):
        compile(code, f"{page} {number}", "exec", flags=0x2000)  # PyCF_ALLOW_TOP_LEVEL_AWAIT


@pytest.mark.parametrize("page", ["node-sdk.md", "../../README.md"])
def test_the_first_node_on_the_page_defines_its_things(monkeypatch, page):
    from callboard import Node

    monkeypatch.setattr(Node, "run", lambda self: None)
    scope = {}
    exec(snippets(page, "python")[0], scope)
    assert [one.card.name for one in scope["node"]._things] == ["temperature", "fan", "open-vent"]


def test_the_slots_on_the_page_are_read(tmp_path):
    (table,) = snippets("farm-nodes.md", "toml")
    file = tmp_path / "callboard.toml"
    file.write_text(table)
    settings = load_settings(file=file, env={"CALLBOARD_STATE": str(tmp_path)}).value
    made = configured.plans(settings.node.farm.slots, settings.slots, lambda _: False)
    assert [one.name for one in made] == ["night-1", "night-2", "ffmpeg", "command"]
    assert list(configured.templates(settings.commands)) == ["convert"]
    assert settings.node.farm.variables == {"jobs": "/mnt/jobs"}
