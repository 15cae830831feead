import json
import multiprocessing
import threading
from pathlib import Path

import pytest

from callboard_broker.access import mosquitto
from callboard_broker.access.rules import RULES, Role
from callboard_broker.access.users import User, Users, credential_file, ensure_first_users, users_file
from callboard_core.errors import Conflict, Failed, Forbidden, NotFound


@pytest.fixture
def users(tmp_path: Path) -> Users:
    users = Users(tmp_path / "users.json")
    users.put("anna", Role.OPERATOR, "correct horse")
    return users


def test_the_right_password_tells_who_it_is(users: Users):
    for _ in range(2):
        found = users.verify("anna", "correct horse")
        assert found is not None
        assert (found.name, found.role) == ("anna", Role.OPERATOR)


@pytest.mark.parametrize(
    ("name", "password"),
    [("anna", "wrong"), ("anna", ""), ("ben", "correct horse"), ("", ""), ("anna", "\ud800")],
)
def test_a_wrong_name_or_password_is_refused_before_and_after_a_success(
    users: Users, name: str, password: str
):
    assert users.verify(name, password) is None
    assert users.verify("anna", "correct horse")
    assert users.verify(name, password) is None


def test_only_the_first_success_costs_an_argon2_verification(users: Users, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(
        "callboard_broker.access.users._check", lambda h, p: asked.append(p) or p == "correct horse"
    )
    for _ in range(3):
        assert users.verify("anna", "correct horse")
    assert asked == ["correct horse"]


@pytest.mark.parametrize("name", ["anna", "nobody", "disabled", "pi-1", "pi-2"])
def test_every_refusal_costs_one_argon2_verification(
    users: Users, name: str, monkeypatch: pytest.MonkeyPatch
):
    users.put("disabled", Role.VIEWER, "right")
    users.enrol("pi-1", "the node's")
    users.enrol("pi-2", "right")
    for one in ("disabled", "pi-2"):
        users.disable(one)
    assert users.verify("anna", "correct horse")
    asked: list[str] = []
    monkeypatch.setattr("callboard_broker.access.users._check", lambda h, p: asked.append(p) or p == "right")
    assert users.verify(name, "right" if name in {"disabled", "pi-2"} else "wrong") is None
    assert len(asked) == 1


def test_a_disabled_user_is_refused_at_once_by_everyone_who_shares_the_file(users: Users):
    elsewhere = Users(users.path)
    assert elsewhere.verify("anna", "correct horse")
    users.disable("anna")
    assert elsewhere.verify("anna", "correct horse") is None
    users.disable("anna", disabled=False)
    assert elsewhere.verify("anna", "correct horse")


def test_disabling_an_unknown_user_names_the_known_ones(users: Users):
    with pytest.raises(NotFound, match="anna"):
        users.disable("ben")


def test_a_changed_password_replaces_the_old_one(users: Users):
    assert users.verify("anna", "correct horse")
    users.put("anna", Role.VIEWER, "battery staple")
    assert users.verify("anna", "correct horse") is None
    found = users.verify("anna", "battery staple")
    assert found is not None
    assert found.role == Role.VIEWER


def test_an_enrolled_node_is_found_by_name_password_certificate_and_client_id(users: Users):
    users.enrol("pi-1", "secret", "ab" * 32)
    user = users.verify("pi-1", "secret")
    assert user == User("pi-1", Role.NODE, client_id="pi-1", certificate="ab" * 32)
    assert users.find("pi-1") == users.find_certificate("ab" * 32) == user
    assert users.owner("pi-1") == "pi-1"


def test_a_nodes_password_needs_no_slow_hash_until_a_person_chooses_another(
    users: Users, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []
    monkeypatch.setattr("callboard_broker.access.users._check", lambda h, p: asked.append(p) or p == "chosen")
    users.enrol("pi-1", "secret")
    before = users.mark("pi-1")
    assert users.verify("pi-1", "secret")
    assert asked == []
    users.change_password("pi-1", "chosen")
    assert users.mark("pi-1") != before, "its session is dropped"
    assert users.verify("pi-1", "secret") is None
    assert users.verify("pi-1", "chosen")
    assert asked == ["secret", "chosen"]


def test_a_password_that_the_board_made_is_recognised_at_once_and_a_chosen_one_is_not(users: Users):
    assert users.recognise("anna", "correct horse") is None
    users.put("made", Role.VIEWER, "random", chosen=False)
    assert users.recognise("made", "random") == users.recall("made", "random") == User("made", "viewer")
    assert users.recognise("made", "other") is users.recall("made", "other") is None
    users.disable("made")
    assert users.recognise("made", "random") is None
    users.disable("made", disabled=False)
    users.change_password("made", "chosen word")
    assert users.recognise("made", "chosen word") is users.recognise("made", "random") is None
    assert users.verify("made", "chosen word") is not None
    users.change_password("made", "random again", chosen=False)
    assert users.recognise("made", "random again") is not None


def test_it_is_told_whose_password_is_remembered(users: Users):
    assert not users.remembers("anna")
    users.verify("anna", "correct horse")
    assert users.remembers("anna")
    users.change_password("anna", "battery staple")
    assert not users.remembers("anna")
    assert not users.remembers("nobody")


def test_a_first_user_whose_password_somebody_wrote_down_himself_has_a_chosen_one(tmp_path: Path):
    ensure_first_users(tmp_path)
    (tmp_path / "users.json").unlink()
    credential_file(tmp_path, "viewer").write_text("my own password\n")
    users = ensure_first_users(tmp_path)
    assert users.recognise("viewer", "my own password") is None
    made = credential_file(tmp_path, "admin").read_text().strip()
    assert users.recognise("admin", made) is not None


def test_a_new_enrolment_makes_the_old_credential_worthless(users: Users):
    users.enrol("pi-1", "secret", "ab" * 32)
    mark = users.marks()["pi-1"]
    users.enrol("pi-1", "another", "cd" * 32)
    assert users.verify("pi-1", "secret") is None
    assert users.find_certificate("ab" * 32) is None
    assert users.find_certificate("cd" * 32) is not None
    assert users.marks()["pi-1"] != mark, "its session is dropped"


def test_a_renewed_certificate_replaces_the_old_one_and_ends_no_session(users: Users):
    users.enrol("pi-1", "secret", "ab" * 32)
    before = users.marks()
    users.certify("pi-1", "cd" * 32)
    assert users.find_certificate("ab" * 32) is None
    assert users.find_certificate("cd" * 32) == users.verify("pi-1", "secret")
    assert users.marks() == before


def test_a_disabled_nodes_certificate_is_nobodys_and_its_id_stays_taken(users: Users):
    users.enrol("pi-1", "secret", "ab" * 32)
    users.disable("pi-1")
    assert users.find("pi-1") is users.find_certificate("ab" * 32) is None
    assert users.owner("pi-1") == "pi-1"
    users.remove("pi-1")
    assert users.owner("pi-1") is None


def test_nobody_is_found_without_a_certificate_or_client_id(users: Users):
    assert users.find_certificate("") is None
    assert users.owner("") is None


@pytest.mark.parametrize("name", ["anna", "board", "admin"])
def test_a_node_cannot_be_enrolled_under_the_name_of_somebody_else(users: Users, name: str):
    with pytest.raises(Conflict, match=name):
        users.enrol(name, "secret")
    assert users.verify("anna", "correct horse")


def test_a_file_from_before_client_ids_is_read_unchanged(users: Users):
    rows = json.loads(users.path.read_text())
    for row in rows.values():
        del row["client_id"], row["certificate"], row["sha256"]
    users.path.write_text(json.dumps(rows))
    found = Users(users.path).verify("anna", "correct horse")
    assert found == User("anna", Role.OPERATOR)


def test_the_file_is_private_and_holds_no_password(users: Users):
    assert users.path.stat().st_mode & 0o777 == 0o600
    assert "correct horse" not in users.path.read_text()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"anna": 1}', '{"anna": {}}', '{"anna": {"role": "boss"}}', '"anna"', "\xff"]
)
def test_a_damaged_file_is_a_clear_error(users: Users, text: str):
    users.path.write_bytes(text.encode("latin-1"))
    with pytest.raises(Failed, match=r"users\.json is damaged"):
        users.verify("anna", "correct horse")


def test_first_users_get_random_passwords_in_private_files(tmp_path: Path):
    state = tmp_path / "state"
    users = ensure_first_users(state)
    passwords = {role: credential_file(state, role).read_text().strip() for role in Role}
    assert len(set(passwords.values())) == len(Role)
    assert state.stat().st_mode & 0o777 == 0o700
    for role, password in passwords.items():
        assert len(password) >= 24
        assert credential_file(state, role).stat().st_mode & 0o777 == 0o600
        found = users.verify(role, password)
        assert found is not None
        assert found.role == role


def test_first_users_stay_as_they_are_at_the_next_start(tmp_path: Path):
    ensure_first_users(tmp_path)
    before = users_file(tmp_path).read_bytes()
    ensure_first_users(tmp_path)
    assert users_file(tmp_path).read_bytes() == before


def test_a_removed_password_file_means_a_new_password(tmp_path: Path):
    ensure_first_users(tmp_path)
    file = credential_file(tmp_path, "viewer")
    old = file.read_text().strip()
    file.unlink()
    users = ensure_first_users(tmp_path)
    assert users.verify("viewer", old) is None
    assert users.verify("viewer", file.read_text().strip())


def test_a_start_cut_off_between_password_and_user_is_finished_by_the_next(tmp_path: Path):
    users = ensure_first_users(tmp_path)
    users.remove("viewer")
    assert ensure_first_users(tmp_path).verify(
        "viewer", credential_file(tmp_path, "viewer").read_text().strip()
    )


def test_processes_that_start_at_once_agree_on_the_passwords(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    starts = [context.Process(target=ensure_first_users, args=(tmp_path,)) for _ in range(3)]
    for start in starts:
        start.start()
    for start in starts:
        start.join(30)
        assert start.exitcode == 0
    users = Users(users_file(tmp_path))
    assert all(users.verify(role, credential_file(tmp_path, role).read_text().strip()) for role in Role)


def test_threads_that_write_at_once_lose_nothing(users: Users):
    names = [f"user{number}" for number in range(6)]
    threads = [threading.Thread(target=users.put, args=(name, Role.VIEWER, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(users.names()) == {"anna", *names}
    assert json.loads(users.path.read_text())


def test_a_folder_that_cannot_be_written_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(Forbidden, match="--state"):
        ensure_first_users(tmp_path / "state")


def test_our_hash_is_the_one_mosquitto_passwd_writes():
    # Made with `mosquitto_passwd -U` from `viewer:secret`.
    theirs = "$7$101$vyGcpkvSSzx/Mtgf$vBTyOw1BR7f0Z3fmur5qijYRFOyxJqVtFgAV/N7t3wKBt6B5BZBsujyC4v6k3uslL8S9ycDnjHnVJbLRVHNtdg=="
    import base64

    salt = base64.b64decode(theirs.split("$")[3])
    assert mosquitto.hash_password("secret", salt=salt, rounds=101) == theirs


def test_the_mosquitto_password_file_leaves_disabled_users_out(users: Users):
    users.put("ben", Role.VIEWER, "x")
    users.disable("ben")
    lines = users.mosquitto_passwords().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("anna:$7$")


def test_the_mosquitto_access_file_spells_the_rules_out():
    text = mosquitto.access_file(
        "callboard", [User("node", Role.NODE), User("viewer", Role.VIEWER)], RULES.get
    )
    node, viewer = (block.splitlines() for block in text.split("\n\n")[1:])
    assert viewer == ["user viewer", "topic read callboard/#", "topic read $SYS/#"]
    assert "topic write callboard/+/status/#" in node
    assert "topic write callboard/+/command/action/ping" in node
    assert "topic write callboard/+/command/action/lane" in node
    assert "topic write callboard/+/command/worker/+" in node
    assert "topic deny callboard/board/command/worker/forget" in node
    assert "topic deny callboard/board/command/worker/submit" in node
    assert not any(line.startswith("topic deny") and line.endswith(("#", "/attempt")) for line in node)
    assert not [line for line in node if line.startswith("topic write") and line.endswith("command/#")]
    assert "pattern read callboard/%c/#" in text


def test_on_mosquitto_a_client_id_gives_more_than_replies_only_while_somebody_depends_on_it():
    def patterns(*users: User) -> list[str]:
        text = mosquitto.access_file("callboard", users, RULES.get)
        return [line for line in text.splitlines() if line.startswith("pattern")]

    replies = ["pattern write callboard/%c/reply", "pattern read callboard/%c/reply"]
    bound = User("pump", Role.NODE, "pump")
    assert patterns(User("viewer", Role.VIEWER), bound) == replies
    assert set(patterns(User("node", Role.NODE), bound)) == {*replies, "pattern read callboard/%c/#"}
