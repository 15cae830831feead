from __future__ import annotations

from pathlib import Path

import pytest

from callboard_broker.access.roles import make_rule
from callboard_broker.engine.mosquitto import configuration
from callboard_core.errors import BadRequest
from callboard_core.settings import load_settings


def test_settings_of_the_broker_are_written_in_mosquittos_words(tmp_path: Path) -> None:
    flags = {
        "state": tmp_path,
        "mqtt.port": 1999,
        "mqtt.sys_interval": 7,
        "mqtt.limits.message_bytes": 5_000,
    }
    lines = configuration(load_settings(env={}, flags=flags).value, tmp_path, root=False).splitlines()
    assert {"listener 1999 127.0.0.1", "sys_interval 7", "message_size_limit 5000"} <= set(lines)
    assert "user root" not in lines


@pytest.mark.parametrize("pattern", ["a\nuser viewer\ntopic write #", "a\rb", "a\u2028b", "a\x7fb"])
def test_a_pattern_cannot_begin_another_line_of_the_access_file(pattern: str) -> None:
    with pytest.raises(BadRequest, match="control character"):
        make_rule(publish=[pattern])
