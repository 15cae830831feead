"""Every numbered statement of MQTT 3.1.1 has a test that names it, or binds the client only."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]

#: How many statements each section has (MQTT 3.1.1, appendix B; sections 6 and below; 7 is about documents).
SECTIONS = """
    1.5.3:3 2.2.2:2 2.3.1:7 3.1.0:2 3.1.2:24 3.1.3:11 3.1.4:5 3.2.0:1 3.2.2:6 3.3.1:12 3.3.2:3 3.3.4:1 3.3.5:2
    3.6.1:1 3.8.1:1 3.8.3:4 3.8.4:6 3.9.3:2 3.10.1:1 3.10.3:2 3.10.4:6 3.12.4:1 3.14.1:1 3.14.4:3 4.1.0:2 4.3.1:1
    4.3.2:2 4.3.3:2 4.4.0:1 4.5.0:2 4.6.0:6 4.7.1:3 4.7.2:1 4.7.3:4 4.8.0:2 6.0.0:4
"""
CLIENTS = {
    "2.3.1-2": "a client gives each new packet an unused identifier",
    "2.3.1-3": "a client that sends a packet again keeps its identifier",
    "3.1.2-23": "a client sends something within its keep-alive",
    "3.1.3-7": "a client with an empty id asks for a clean session",
    "3.14.4-1": "a client closes after DISCONNECT",
    "3.14.4-2": "a client sends nothing after DISCONNECT",
    "4.5.0-2": "a client acknowledges what it is sent",
    "6.0.0-3": "a client offers the subprotocol `mqtt`",
}


def statements() -> set[str]:
    counts = (entry.split(":") for entry in SECTIONS.split())
    return {f"{section}-{n + 1}" for section, many in counts for n in range(int(many))}


def named() -> set[str]:
    """Statements in names of tests of version 3.1.1, or beside what tests them."""
    found: set[str] = set()
    for file in [*TESTS.glob("conformance/test_mqtt311_*.py"), *TESTS.glob("integration/test_*.py")]:
        text = file.read_text()
        found |= {f"{m[1]}.{m[2]}.{m[3]}-{m[4]}" for m in re.finditer(r"(\d+)_(\d+)_(\d+)_(\d+)", text)}
        found |= set(re.findall(r"MQTT-(\d+\.\d+\.\d+-\d+)", text))
    return found


def test_every_statement_that_binds_a_server_is_tested() -> None:
    assert statements() - named() - CLIENTS.keys() == set()


def test_what_is_left_out_is_a_statement() -> None:
    assert CLIENTS.keys() <= statements()
