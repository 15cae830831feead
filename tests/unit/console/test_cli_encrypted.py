"""What is said of an encrypted listener, by what it showed and by what answers there."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from callboard_broker.access.authority import Authority
from callboard_console.cli import doctor
from callboard_console.cli.encrypted import Seen, look, verdict
from callboard_core.runtime import Lan, Mqtt, Runtime

DAY = 86_400.0
GOOD = Seen("https", "127.0.0.1:8443", ends=400 * DAY, names=frozenset({"10.0.0.5", "fd00::7", "board.lan"}))


def test_a_listener_whose_certificate_fits_is_all_right() -> None:
    ok, said = verdict(GOOD, ["10.0.0.5", "FD00:0:0:0:0:0:0:7", "Board.lan"], now=0)
    assert (ok, "good for 400 days" in said) == (True, True)


@pytest.mark.parametrize(
    ("reached_by", "now", "said"),
    [
        (["10.0.0.5", "10.0.0.6"], 0.0, "does not name 10.0.0.6.*restart the board"),
        (["10.0.0.5"], 390 * DAY, "ends in 10 days.*callboard trust rotate"),
    ],
)
def test_a_certificate_that_others_will_refuse_is_told_with_a_remedy(
    reached_by: list[str], now: float, said: str
) -> None:
    ok, found = verdict(GOOD, reached_by, now)
    assert not ok
    assert re.search(said, found)


def made(folder: Path) -> Authority:
    folder.mkdir()
    authority = Authority(folder, "callboard")
    authority.ensure(["localhost", "127.0.0.1", "::1"])
    return authority


@contextmanager
def listening(authority: Authority) -> Iterator[int]:
    """A port where somebody answers with an authority's server certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.files.server)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            plain, _ = listener.accept()
            with plain:
                try:
                    context.wrap_socket(plain, server_side=True).close()
                except OSError:
                    return  # the client did not like it

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join(30)


def lan(authority: Authority, port: int) -> Lan:
    at = Mqtt(host="192.0.2.7", port=port, url=f"https://192.0.2.7:{port}")
    return Lan(https=at, ca=authority.files.authority, bind="0.0.0.0")


def test_the_boards_own_listener_convinces_and_shows_its_names_and_its_end(tmp_path: Path) -> None:
    authority = made(tmp_path / "own")
    with listening(authority) as port:
        (seen,) = look(lan(authority, port))
    assert (seen.part, seen.fault, seen.ends) == ("https", "", authority.ends.timestamp() // 1)
    assert {"127.0.0.1", "::1", "localhost"} <= seen.names


def test_another_boards_certificate_and_a_closed_port_are_told(tmp_path: Path) -> None:
    own, stranger = made(tmp_path / "own"), made(tmp_path / "other")
    with listening(stranger) as port:
        (seen,) = look(lan(own, port))
    assert "does not convince" in seen.fault
    (closed,) = look(lan(own, port))
    assert "does not answer" in closed.fault
    assert verdict(closed, [])[0] is False


def running(port: int) -> Runtime:
    url = f"mqtt://127.0.0.1:{port}"
    told: dict[str, Any] = {"site": "callboard", "version": "0", "pid": 1, "started": 0, "ready": True}
    told |= {"engine": "embedded", "mqtt": {"host": "127.0.0.1", "port": port, "url": url}}
    told |= {"http": {"url": "http://127.0.0.1:1"}, "pids": {}, "roles": {}, "credentials": {}}
    return Runtime.model_validate(told)


@pytest.mark.parametrize(("bind", "ok"), [("127.0.0.1", True), ("0.0.0.0", False)])
def test_plain_ports_are_told_where_other_machines_reach_them(
    bind: str, ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard_broker.access.names.own_addresses", lambda: ["127.0.0.1", "127.0.0.2"])
    monkeypatch.setattr("callboard_core.listening.is_loopback", lambda host: host != "127.0.0.2")
    with socket.create_server((bind, 0)) as listener:
        check = doctor.plain_ports(running(listener.getsockname()[1]))
    assert check.ok is ok
    assert ("mqtt at 127.0.0.2" in check.found, "--lan" in check.found) == (not ok, not ok)
