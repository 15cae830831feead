import os
import signal
import socket
import subprocess
import sys

import pytest

from callboard_core.processes import Holder, check_port, die_with_parent, free_port, port_holder, process_name


def test_a_free_port_can_be_listened_on_and_is_none_of_the_outgoing_ones():
    port = free_port("127.0.0.1")
    check_port("127.0.0.1", port)
    assert 20_000 <= port < 32_000
    assert free_port("127.0.0.1", frozenset({port})) != port


def test_a_taken_port_is_told_with_its_holder():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            check_port("127.0.0.1", port)
        holder = port_holder(port)
        assert holder is not None
        assert holder.pid == os.getpid()
        assert str(holder) == f"{process_name(os.getpid())} (pid {os.getpid()})"


def test_nobody_holds_a_free_port():
    assert port_holder(free_port("127.0.0.1")) is None


def test_an_address_of_another_machine_is_an_error():
    with pytest.raises(OSError, match="assign"):
        free_port("192.0.2.1")


def test_a_holder_of_another_user_has_no_name():
    assert str(Holder(None, None)) == "a process of another user"


def test_a_process_that_does_not_exist_has_no_name():
    assert process_name(2**22 + 1) is None


def test_who_comes_after_the_parents_death_dies_too():
    code = "from callboard_core.processes import die_with_parent; die_with_parent(1 << 22); print('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b""


def test_who_has_its_parent_lives_on():
    code = f"from callboard_core.processes import die_with_parent; die_with_parent({os.getpid()}); print('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "alive\n"
    assert callable(die_with_parent)
