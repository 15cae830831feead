"""callboard_nodes.machine."""

from __future__ import annotations

import socket

from callboard_nodes.machine import describe


def test_this_machine_is_described():
    found = describe()
    assert found.hostname == socket.gethostname()
    assert found.system.startswith("Linux ")
    assert not any(address.startswith("127.") for address in found.addresses)


def test_a_raspberry_pi_and_a_pc_tell_their_model(tmp_path):
    assert describe(tmp_path).model is None
    pc = tmp_path / "sys/class/dmi/id"
    pc.mkdir(parents=True)
    (pc / "product_name").write_text("ThinkCentre M715q\n")
    assert describe(tmp_path).model == "ThinkCentre M715q"
    pi = tmp_path / "proc/device-tree"
    pi.mkdir(parents=True)
    (pi / "model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    assert describe(tmp_path).model == "Raspberry Pi 5 Model B Rev 1.0"
