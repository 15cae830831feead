"""Users and rules written for a Mosquitto that is not ours, on a real one, over the whole matrix of roles and topics."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from callboard_broker.access import Users, users_file
from callboard_broker.access.exports import for_emqx
from callboard_broker.access.mosquitto import PasswordHash, hash_password
from callboard_broker.access.roles import make_rule
from callboard_broker.access.rules import RULES
from callboard_broker.access.users import User
from callboard_console.cli.main import app
from callboard_core.topics import matches
from support import packets, wire
from support.emqx import Acl
from support.engines import Mosquitto, Options
from support.matrix import ME, OTHER, PUBLISH, ROLES, SUBSCRIBE
from support.users import password

PLUGIN = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with a user of each role, bound to a client id of its own, and one with a role of the site's own."""
    folder = tmp_path_factory.mktemp("state")
    users = Users(users_file(folder))
    for role in ROLES:
        users.put(f"a-{role}", role, password(role), client_id=_client(role))
    rule = make_rule(publish=["{site}/pump/command/#", "{site}/notes/{user}/#"], subscribe=["{site}/pump/#"])
    users.roles.put("gardener", rule)
    users.put("gus", "gardener", "gus's password")
    users.put("gone", "admin", "gone's password")
    users.disable("gone")
    return folder


def _client(role: str) -> str:
    return f"pi-{role}"


def _export(state: Path, broker: str, out: Path) -> str:
    done = CliRunner().invoke(
        app, ["export", "acl", "--for", broker, "--out", str(out), "--state", str(state)]
    )
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module", params=["files", "plugin"])
def broker(
    request: pytest.FixtureRequest, state: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mosquitto]:
    out = tmp_path_factory.mktemp("export")
    _export(state, "mosquitto", out)
    lines = ["allow_anonymous false", f"password_file {out}/passwords", f"acl_file {out}/access"]
    if request.param == "plugin":
        assert PLUGIN is not None
        lines = [
            "allow_anonymous false",
            f"plugin {PLUGIN}",
            f"plugin_opt_config_file {out}/dynamic-security.json",
        ]
    engine = Mosquitto(tmp_path_factory.mktemp("broker"), Options(mosquitto=tuple(lines)))
    engine.start()
    yield engine
    engine.stop()


def _watch(broker: Mosquitto) -> wire.Wire:
    """Sees everything; the administrator of the exported users."""
    found = broker.connect(_client("admin"), username="a-admin", password=password("admin"))
    found.subscribe(("#", 1))
    found.backlog()
    return found


def _command(program: str, broker: Mosquitto, role: str, *more: str) -> list[str]:
    client = _client(role) if role != "admin" else "pi-admin-too"
    login = ["-u", f"a-{role}", "-P", password(role), "-i", client]
    return [program, "-h", "127.0.0.1", "-p", str(broker.port), "-V", "mqttv5", *login, *more]


def _mine(topic: str, role: str) -> str:
    return topic.replace(ME, _client(role))


@pytest.mark.parametrize("role", [role for role in ROLES if role != "admin"])
def test_mosquitto_pub_reaches_what_the_role_may_and_nothing_else(broker: Mosquitto, role: str):
    with _watch(broker) as watch:
        for topic in PUBLISH:
            subprocess.run(
                _command("mosquitto_pub", broker, role, "-t", _mine(topic, role), "-m", role, "-q", "1"),
                capture_output=True, timeout=60, check=False,
            )  # fmt: skip
        watch.publish("end", b"end", qos=1)
        seen = set()
        while (message := watch.message()).topic != "end":
            seen.add(message.topic)
    assert seen == {_mine(topic, role) for topic, roles in PUBLISH.items() if role[0] in roles}


@pytest.mark.parametrize("role", [role for role in ROLES if role != "admin"])
def test_mosquitto_sub_is_sent_what_the_role_may_have_and_nothing_else(broker: Mosquitto, role: str):
    filters = {
        _mine(wanted, role): roles for wanted, roles in SUBSCRIBE.items() if not wanted.startswith("$")
    }
    topics = [wanted.replace("+", OTHER).replace("#", "x") for wanted in filters]
    end = f"callboard/{_client(role)}/command/end"
    expected = {
        topic
        for topic in topics
        if any(role[0] in roles and matches(one, topic) for one, roles in filters.items())
    }
    options = [word for wanted in filters for word in ("-t", wanted)]
    command = [
        "stdbuf",
        "-oL",
        *_command("mosquitto_sub", broker, role, *options, "-F", "%t", "-q", "1", "-d"),
    ]
    with (
        _watch(broker) as watch,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        assert process.stdout is not None
        heard = set()
        for line in process.stdout:
            text = line.strip()
            if text.startswith("Subscribed"):
                for topic in (*topics, end):
                    watch.publish(topic, b"x", qos=1)
            elif text == end:
                break
            elif " " not in text and "/" in text:
                heard.add(text)
        process.terminate()
    assert heard == expected


def test_a_role_of_the_sites_own_and_disabled_users_are_exported_too(broker: Mosquitto):
    allowed = ["callboard/pump/command/control/on", "callboard/notes/gus/today"]
    with _watch(broker) as watch:
        for topic in (*allowed, "callboard/tap/command/control/on", "callboard/notes/ann/today"):
            # It closes the connection of whoever publishes what he may not.
            with broker.connect("can", username="gus", password="gus's password") as gus:
                gus.send(packets.publish(topic, b"x"))
                gus.disconnect()
        watch.publish("end", b"end", qos=1)
        seen = []
        while (message := watch.message()).topic != "end":
            seen.append(message.topic)
    assert sorted(seen) == sorted(allowed)
    with wire.Wire(broker.address) as gone:
        assert gone.connect("gone", username="gone", password="gone's password").code in {4, 5}


def test_the_plugin_keeps_a_bound_user_from_other_client_ids(broker: Mosquitto):
    with wire.Wire(broker.address) as thief:
        code = thief.connect("somebody-else", username="a-node", password=password("node")).code
    bound = "plugin" in "".join(broker.options.mosquitto)
    assert (code == 0) is not bound


def test_emqx_is_told_the_same_users_and_rules_in_its_own_words(state: Path, tmp_path: Path):
    told = _export(state, "emqx", tmp_path)
    assert "pbkdf2" in told
    lines = (tmp_path / "users.csv").read_text().splitlines()
    rows = {row["user_id"]: row for row in csv.DictReader(lines)}
    assert set(rows) == {"gus", *(f"a-{role}" for role in ROLES)}
    hashed = PasswordHash(1000, rows["gus"]["salt"].encode(), bytes.fromhex(rows["gus"]["password_hash"]))
    assert str(hashed) == Users(users_file(state)).mosquitto_hashes()["gus"]
    lines = (tmp_path / "acl.conf").read_text().splitlines()
    assert lines[-1] == "{deny, all}."
    node = '{\'and\', [{username, "a-node"}, {clientid, "pi-node"}]}'
    mine = [line for line in lines if node in line]
    assert [line.split(",")[0] for line in mine] == ["{allow", "{deny", "{allow", "{allow"]
    assert "callboard/${clientid}/#" in mine[2]
    assert '{allow, {username, "gus"}, subscribe, ["callboard/pump/#"]}.' in lines
    assert '"callboard/notes/${username}/#"' in next(line for line in lines if '"gus"}, publish' in line)


@pytest.fixture(scope="module")
def emqx(state: Path, tmp_path_factory: pytest.TempPathFactory) -> Acl:
    out = tmp_path_factory.mktemp("emqx")
    _export(state, "emqx", out)
    return Acl.read((out / "acl.conf").read_text())


@pytest.mark.parametrize("role", ROLES)
def test_by_emqxs_rules_a_role_may_what_it_may_here_and_nothing_else(emqx: Acl, role: str):
    def may(action: str, topics: dict[str, str]) -> set[str]:
        user = (f"a-{role}", _client(role))
        return {topic for topic in topics if emqx.allows(*user, action, _mine(topic, role))}

    assert may("publish", PUBLISH) == {topic for topic, roles in PUBLISH.items() if role[0] in roles}
    assert may("subscribe", SUBSCRIBE) == {topic for topic, roles in SUBSCRIBE.items() if role[0] in roles}


@pytest.mark.parametrize("client", ["+", "#", "+/x", "pi-two/state", "$SYS", "board", "${username}"])
def test_by_emqxs_rules_no_client_id_widens_what_a_node_may(client: str):
    """The shared user of nodes is bound to no client id; EMQX puts the id into the rules as it is."""
    made = for_emqx("callboard", [User("node", "node")], RULES.get, {"node": hash_password("x")})
    acl = Acl.read(made.files["acl.conf"])
    assert acl.allows("node", "pi-one", "publish", "callboard/pi-one/status")
    for topic in ("callboard/pi-two/status", "callboard/pi-two/state/sensor/x", "callboard/board/status"):
        assert not acl.allows("node", client, "publish", topic)
    assert not acl.allows("node", client, "subscribe", "callboard/pi-two/command/#")
    assert not acl.allows("node", client, "subscribe", f"callboard/{client}/command/#")


def test_by_emqxs_rules_nobody_retains_a_command(emqx: Acl):
    command = f"callboard/{OTHER}/command/control/x"
    for role in ("operator", "admin"):
        assert emqx.allows(f"a-{role}", _client(role), "publish", command)
        assert not emqx.allows(f"a-{role}", _client(role), "publish", command, retain=True)


def test_where_emqx_lets_a_role_subscribe_to_more_it_is_told():
    rule = make_rule(subscribe=["{site}/pump/+"])
    made = for_emqx("callboard", [User("gus", "gardener")], lambda _: rule, {"gus": hash_password("x")})
    assert Acl.read(made.files["acl.conf"]).allows("gus", "c", "subscribe", "callboard/pump/#")
    assert any("gus" in note and "/#" in note for note in made.notes)


def test_the_files_are_private_and_the_plugins_is_json(state: Path, tmp_path: Path):
    _export(state, "mosquitto", tmp_path)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    clients = json.loads((tmp_path / "dynamic-security.json").read_text())["clients"]
    assert {one["username"]: one.get("clientid") for one in clients}["a-node"] == "pi-node"


def test_an_unknown_broker_and_a_machine_without_users_say_what_to_do(tmp_path: Path):
    for words, said in (
        (["--for", "hivemq"], "mosquitto, emqx"),
        (["--for", "emqx"], "where the board runs"),
    ):
        done = CliRunner().invoke(app, ["export", "acl", *words, "--state", str(tmp_path)])
        assert done.exit_code == 1
        assert said in str(done.exception)
