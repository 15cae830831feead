"""callboard_nodes.locate."""

from __future__ import annotations

import pytest

from callboard_core.discovery import Found
from callboard_core.errors import Unavailable
from callboard_core.link import Credential, Endpoint
from callboard_core.runtime import CredentialAt, Http, Mqtt, Runtime, hold_state, runtime_file, write_runtime
from callboard_core.settings import Settings
from callboard_nodes import locate
from callboard_nodes.locate import Locator


@pytest.fixture
def found(monkeypatch):
    """What discovery finds."""
    asked = []

    def find_board(site, timeout, *, port, mdns):
        asked.append((site, port, mdns))
        return Found(site=site, host="192.0.2.7", mqtt_port=1999)

    monkeypatch.setattr(locate, "find_board", find_board)
    return asked


def tell(state, site="callboard", **credentials):
    runtime = Runtime(
        site=site,
        version="1",
        pid=1,
        started=0.0,
        ready=True,
        engine="embedded",
        mqtt=Mqtt(host="127.0.0.1", port=1777, url="mqtt://127.0.0.1:1777"),
        http=Http(url="http://127.0.0.1:1"),
        pids={},
        roles={},
        credentials=credentials,
    )
    write_runtime(state, runtime)


def test_an_address_that_was_given_wins(tmp_path, found):
    with hold_state(tmp_path):
        tell(tmp_path)
        settings = Settings(state=tmp_path, node={"board": "mqtts://example.org"})
        assert Locator(settings).endpoint() == Endpoint("example.org", 8883, tls=True)
    assert found == []


def test_a_board_on_this_machine_comes_before_discovery(tmp_path, found):
    locator = Locator(Settings(state=tmp_path))
    with hold_state(tmp_path):
        tell(tmp_path)
        assert locator.endpoint() == Endpoint("127.0.0.1", 1777)
        tell(tmp_path, site="other")
        assert locator.endpoint() == Endpoint("192.0.2.7", 1999)
    tell(tmp_path)
    assert locator.endpoint() == Endpoint("192.0.2.7", 1999), (
        "the file of a board that has ended counts for nothing"
    )


def test_a_damaged_runtime_file_does_not_keep_a_node_from_the_network(tmp_path, found):
    runtime_file(tmp_path).write_text("{")
    with hold_state(tmp_path):
        assert Locator(Settings(state=tmp_path)).endpoint().host == "192.0.2.7"


def test_discovery_is_asked_for_the_site_on_its_port_and_can_be_off(tmp_path, found):
    settings = Settings(state=tmp_path, site="barn", discovery={"port": 4000, "mdns": False})
    assert Locator(settings).endpoint().port == 1999
    assert found == [("barn", 4000, False)]
    with pytest.raises(Unavailable, match="discovery is off"):
        Locator(Settings(state=tmp_path, discovery={"enabled": False})).endpoint()


def test_a_password_is_taken_from_where_it_was_said(tmp_path):
    file = tmp_path / "secret"
    file.write_text("from a file\n")
    cases = [
        ({"username": "me", "password": "word"}, Credential("me", "word")),
        ({"password_file": file}, Credential("node", "from a file")),
        ({}, None),
    ]
    for node, expected in cases:
        assert Locator(Settings(state=tmp_path / "none", node=node)).credential() == expected


def test_nodes_of_the_boards_own_machine_find_their_password(tmp_path):
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "node.password").write_text("usual\n")
    locator = Locator(Settings(state=tmp_path))
    assert locator.credential() == Credential("node", "usual")
    (tmp_path / "other").write_text("told\n")
    with hold_state(tmp_path):
        tell(tmp_path, node=CredentialAt(username="pi", password_file=tmp_path / "other"))
        assert locator.credential() == Credential("pi", "told")


def with_password(state, role="node", password="ours"):
    (state / "credentials").mkdir(exist_ok=True)
    (state / "credentials" / f"{role}.password").write_text(f"{password}\n")


@pytest.mark.parametrize("role", ["node", "operator"])
def test_the_password_of_a_stopped_board_is_not_shown_to_whoever_answers_discovery(tmp_path, found, role):
    with_password(tmp_path, role)
    with pytest.raises(Unavailable, match=r"not sent to the board that answers at mqtt://192\.0\.2\.7:1999"):
        Locator(Settings(state=tmp_path), role=role).endpoint()


def test_a_password_that_was_given_may_go_to_a_board_that_was_discovered(tmp_path, found):
    with_password(tmp_path)
    file = tmp_path / "copied"
    file.write_text("theirs\n")
    locator = Locator(Settings(state=tmp_path, node={"password_file": file}))
    assert locator.endpoint().host == "192.0.2.7"
    assert locator.credential() == Credential("node", "theirs")
    locator = Locator(Settings(state=tmp_path), given=Credential("me", "mine"))
    assert locator.endpoint().host == "192.0.2.7"
    assert locator.credential() == Credential("me", "mine")


def test_a_discovered_board_on_loopback_gets_the_password_of_the_state_folder(tmp_path, monkeypatch):
    with_password(tmp_path)
    here = Found(site="callboard", host="127.0.0.1", mqtt_port=1999)
    monkeypatch.setattr(locate, "find_board", lambda *_, **__: here)
    locator = Locator(Settings(state=tmp_path))
    assert locator.endpoint() == Endpoint("127.0.0.1", 1999)
    assert locator.credential() == Credential("node", "ours")


def test_a_user_name_without_a_password_picks_that_users_file(tmp_path):
    with_password(tmp_path, "pi", "pie")
    assert Locator(Settings(state=tmp_path, node={"username": "pi"})).credential() == Credential("pi", "pie")
