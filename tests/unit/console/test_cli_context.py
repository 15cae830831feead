"""Which password a verb shows to which board."""

import pytest

from callboard_console.cli.context import Access, find_credential
from callboard_console.cli.node import with_credential
from callboard_core.errors import NotFound
from callboard_core.link import Credential, Endpoint
from callboard_core.settings import Settings

STRANGER = Endpoint("192.0.2.7", 1883)


@pytest.fixture
def state(tmp_path):
    (tmp_path / "credentials").mkdir()
    for role in ("viewer", "operator", "node"):
        (tmp_path / "credentials" / f"{role}.password").write_text(f"of {role}\n")
    return tmp_path


def test_the_password_of_the_state_folder_is_not_for_whoever_answers_discovery(state):
    with pytest.raises(NotFound, match="--password-file"):
        find_credential(Access(), Settings(state=state), "operator", STRANGER)


def test_it_is_for_loopback_and_for_a_board_that_was_named(state):
    own = Credential("operator", "of operator")
    assert find_credential(Access(), Settings(state=state), "operator", Endpoint("127.0.0.1", 1)) == own
    named = Settings(state=state, node={"board": str(STRANGER)})
    assert find_credential(Access(), named, "operator", STRANGER) == own


def test_a_password_file_that_was_given_is_for_any_board(state, tmp_path):
    file = tmp_path / "theirs"
    file.write_text("secret\n")
    access = Access(password_file=file, username="me")
    assert find_credential(access, Settings(state=state), "viewer", STRANGER) == Credential("me", "secret")


def test_a_user_name_on_the_command_line_comes_before_the_one_in_the_settings(state, tmp_path):
    file = tmp_path / "theirs"
    file.write_text("secret\n")
    settings = Settings(state=state, mqtt={"username": "all", "password_file": file})
    here = Endpoint("127.0.0.1", 1)
    assert find_credential(Access(), settings, "viewer", here) == Credential("all", "secret")
    assert find_credential(Access(username="node"), settings, "viewer", here) == Credential("node", "of node")


def test_a_node_leaves_it_to_the_found_board_whether_it_gets_the_password_of_the_state_folder(
    state, tmp_path
):
    assert with_credential(Settings(state=state), Access()).node.password is None
    file = tmp_path / "theirs"
    file.write_text("secret\n")
    chosen = with_credential(Settings(state=state), Access(password_file=file)).node
    assert (chosen.username, chosen.password) == ("node", "secret")
    with pytest.raises(NotFound, match="no password for user 'pi'"):
        with_credential(Settings(state=state), Access(username="pi"))
