"""callboard_nodes.store."""

from __future__ import annotations

import json

from callboard_nodes.store import ControlStore


def test_values_outlive_the_process(tmp_path):
    path = tmp_path / "deep" / "controls.json"
    store = ControlStore(path)
    assert store.get("fan") is None
    for name, value in (("fan", 40), ("lamp", True), ("mode", "eco"), ("fan", 41.5)):
        store.put(name, value)
    again = ControlStore(path)
    assert [again.get(name) for name in ("fan", "lamp", "mode")] == [41.5, True, "eco"]


def test_an_unchanged_value_is_not_written_again(tmp_path):
    path = tmp_path / "controls.json"
    store = ControlStore(path)
    store.put("lamp", True)
    path.unlink()
    store.put("lamp", True)
    assert not path.exists()
    store.put("lamp", 1)
    assert json.loads(path.read_text()) == {"lamp": 1}


def test_a_damaged_file_is_set_aside(tmp_path, caplog):
    path = tmp_path / "controls.json"
    for damage in ('{"fan": 4', "[1, 2]"):
        path.write_text(damage)
        assert ControlStore(path).get("fan") is None
        assert path.with_name("controls.json.corrupt").read_text() == damage
        assert not path.exists()
    assert "kept as" in caplog.text


def test_a_file_that_cannot_be_written_is_the_callers_to_know_of(tmp_path):
    (tmp_path / "file").write_text("")
    store = ControlStore(tmp_path / "file" / "controls.json")
    try:
        store.put("fan", 1)
    except OSError:
        assert store.get("fan") == 1
    else:
        raise AssertionError("expected an OSError")
