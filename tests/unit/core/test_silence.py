"""Silence: repeating in vain for a while is deadly; anything acknowledged begins anew."""

import socket

from callboard_core.silence import DEAD, Silence, probe


class FakeSocket:
    """Says how often the kernel has repeated and probed since the last acknowledgement."""

    repeats = probes = 0

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        return bytes([1, 0, self.repeats, self.probes])[:size]


def test_repeating_in_vain_for_a_while_is_deadly() -> None:
    fake = FakeSocket()
    silence = Silence(fake)
    assert not silence.is_deadly(100.0)
    fake.repeats = 1
    assert not silence.is_deadly(101.0)
    fake.repeats = 4
    assert not silence.is_deadly(101.0 + DEAD - 0.1)
    assert not silence.is_deadly(101.0 + DEAD), "it was just looked at"
    assert silence.is_deadly(102.0 + DEAD)


def test_probing_in_vain_is_deadly_too() -> None:
    fake = FakeSocket()
    silence = Silence(fake)
    fake.probes = 1
    assert not silence.is_deadly(1.0)
    fake.probes, fake.repeats = 0, 2
    assert silence.is_deadly(1.0 + DEAD), "then there was something to send"


def test_an_acknowledgement_begins_anew() -> None:
    fake = FakeSocket()
    silence = Silence(fake)
    fake.repeats = 3
    assert not silence.is_deadly(1.0)
    fake.repeats = 0
    assert not silence.is_deadly(3.0)
    fake.repeats = 1
    assert not silence.is_deadly(6.0)
    assert not silence.is_deadly(8.0)


def test_the_kernel_probes_a_quiet_connection() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    quiet = socket.create_connection(listener.getsockname())
    probe(quiet, 3)
    assert quiet.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert quiet.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 3
    assert quiet.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 1
    for one in (listener, quiet):
        one.close()


class Closed:
    """A socket of uvloop's that is closed."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        raise ValueError("negative file descriptor")


def test_a_socket_that_uvloop_has_closed_is_not_deadly() -> None:
    assert not Silence(Closed()).is_deadly(1.0)


def test_a_living_a_closed_and_a_unix_socket_are_not_deadly() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    living = socket.create_connection(listener.getsockname())
    silence = Silence(living)
    assert not silence.is_deadly(1.0)
    living.close()
    assert not silence.is_deadly(9.0)
    left, right = socket.socketpair()
    assert not Silence(left).is_deadly(1.0)
    for one in (listener, left, right):
        one.close()
