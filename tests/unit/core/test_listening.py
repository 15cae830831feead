"""callboard_core.listening."""

import errno
import os
import socket

import pytest

from callboard_core.errors import BadRequest, Conflict, Failed, Forbidden
from callboard_core.listening import explain, is_loopback, listen, reachable

WORDS = {"what": "http", "flag": "--http-port"}


def test_a_taken_port_names_its_holder_and_the_way_out():
    with listen("127.0.0.1", 0, **WORDS) as first:
        port = first.getsockname()[1]
        with pytest.raises(
            Conflict, match=rf"port {port} \(http\) is taken by .*pid {os.getpid()}.*--http-port"
        ):
            listen("127.0.0.1", port, **WORDS)


def test_an_address_of_another_machine_is_told():
    with pytest.raises(BadRequest, match=r"192\.0\.2\.1 is no address of this machine \(http\)"):
        listen("192.0.2.1", 0, **WORDS)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermissionError(errno.EACCES, "no"), Forbidden),
        (socket.gaierror(-2, "unknown"), BadRequest),
        (OSError(errno.EMFILE, "too many open files"), Failed),
    ],
)
def test_every_reason_has_its_error(error: OSError, kind: type[Exception]):
    assert type(explain(error, "x", 80, **WORDS)) is kind


def test_listeners_on_all_addresses_are_reached_on_loopback():
    assert [reachable(bind) for bind in ("0.0.0.0", "::", "", "192.0.2.1")] == [
        "127.0.0.1", "::1", "127.0.0.1", "192.0.2.1",
    ]  # fmt: skip


def test_loopback_is_told_from_the_network():
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"))
    assert not any(
        is_loopback(host) for host in ("0.0.0.0", "192.0.2.1", "example.org", "127.example.org", "")
    )


def test_answers_on_its_connections_do_not_wait_to_be_sent_together():
    with (
        listen("127.0.0.1", 0, **WORDS) as listener,
        socket.create_connection(listener.getsockname()[:2]),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
