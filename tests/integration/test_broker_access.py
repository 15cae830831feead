"""Who may do what on the brokers: role x topic x verb, on connect, publish, subscribe and delivery."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard_broker.access import Role, Users, users_file
from callboard_core.topics import matches
from support import packets as p
from support.embedded import Certificates
from support.engines import ENGINES, Engine, Options, free_port, running
from support.matrix import ME, OTHER, PUBLISH, ROLES, SUBSCRIBE
from support.talker import Talker
from support.timing import Stopwatch
from support.users import password
from support.wire import Closed, Will, Wire


@pytest.fixture(scope="module", params=ENGINES)
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    state = tmp_path_factory.mktemp(f"guarded-{request.param}")
    with running(request.param, state, _listening(tmp_path_factory.mktemp("certificates"))) as engine:
        yield engine


def _listening(folder: Path) -> Options:
    """Every kind of listener on each engine."""
    PORTS.update({name: free_port() for name in ("tls", "ws", "wss")})
    certificate, key = Certificates(folder).issue("server")
    secure = {"ssl": True, "certfile": str(certificate), "keyfile": str(key)}
    plain = {name: {"bind": f"127.0.0.1:{port}"} for name, port in PORTS.items()}
    lines = [f"certfile {certificate}", f"keyfile {key}"]
    return Options(
        access=True,
        listeners={
            "tls": plain["tls"] | secure,
            "ws": plain["ws"] | {"type": "ws"},
            "wss": plain["wss"] | secure | {"type": "ws"},
        },
        mosquitto=(
            *(f"listener {PORTS['tls']} 127.0.0.1", *lines),
            *(f"listener {PORTS['ws']} 127.0.0.1", "protocol websockets"),
            *(f"listener {PORTS['wss']} 127.0.0.1", "protocol websockets", *lines),
        ),
    )


PORTS: dict[str, int] = {}


def login(engine: Engine, role: str, client_id: str = ME, **options) -> Wire:
    return engine.connect(client_id, username=role, password=password(role), **options)


def may_publish(engine: Engine, role: str, topic: str) -> bool:
    """Mosquitto's rules cannot tie an id to a user, as documented: a node writes under any id, but no commands."""
    if engine.name == "mosquitto" and role == "node" and topic.startswith("callboard/"):
        return "/command/" not in topic or topic.endswith(("/ping", "/lane", "/attempt"))
    return role[0] in PUBLISH[topic]


def witness(engine: Engine) -> Wire:
    """Sees everything."""
    wire = login(engine, "admin", "witness")
    wire.subscribe(("#", 1))
    wire.backlog()
    return wire


def drop_retained(engine: Engine, topic: str) -> None:
    with login(engine, "admin", "cleaner") as wire:
        wire.publish(topic, qos=1, retain=True)


@pytest.mark.parametrize("topic", PUBLISH)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_publishes_where_it_may_and_nowhere_else(guarded: Engine, role: str, topic: str) -> None:
    """[MQTT-3.3.5-2]: a refused PUBLISH is acknowledged all the same (embedded), or the connection closed (mosquitto)."""
    allowed = may_publish(guarded, role, topic)
    with witness(guarded) as watch:
        for qos in (0, 1, 2):
            with login(guarded, role) as wire:
                if guarded.name == "mosquitto" and not allowed:
                    wire.send(p.publish(topic, b"%d" % qos, qos=qos, pid=1))
                    assert wire.is_closed()
                else:
                    wire.publish(topic, b"%d" % qos, qos=qos)
                    assert wire.is_quiet()
        seen = [m.payload for m in watch.backlog() if m.topic == topic]
    assert seen == ([b"0", b"1", b"2"] if allowed else [])


@pytest.mark.parametrize("topic", PUBLISH)
@pytest.mark.parametrize("role", ROLES)
def test_a_will_is_published_only_where_its_owner_might_publish(
    guarded: Engine, role: str, topic: str
) -> None:
    """Embedded already refuses the CONNECT that brings such a will; mosquitto drops the will."""
    allowed = may_publish(guarded, role, topic)
    with witness(guarded) as watch:
        if guarded.name == "embedded" and not allowed:
            with Wire(guarded.address) as wire:
                assert wire.connect(ME, username=role, password=password(role), will=Will(topic)).code == 5
            assert watch.is_quiet()
            return
        login(guarded, role, will=Will(topic, b"will", qos=1)).close()
        with login(guarded, role) as again:  # when this is accepted, the first one is done with
            again.disconnect()
        assert [m.payload for m in watch.backlog() if m.topic == topic] == ([b"will"] if allowed else [])


@pytest.mark.parametrize("wanted", SUBSCRIBE)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_receives_what_it_may_and_nothing_else(guarded: Engine, role: str, wanted: str) -> None:
    """Embedded refuses the subscription; mosquitto 2.0 grants some and delivers nothing."""
    allowed = role[0] in SUBSCRIBE[wanted]
    if guarded.name == "mosquitto" and wanted in {"#", "+/+/status", "$share/g/#"}:
        _check_mosquitto_wide(guarded, role, wanted)
        return
    with login(guarded, role) as wire, login(guarded, "admin", "talker") as talker:
        codes = wire.subscribe((wanted, 1)).codes
        if guarded.name == "embedded":
            assert codes == ((1,) if allowed else (0x80,))
        wire.backlog()
        topic = wanted.removeprefix("$share/g/").replace("+", OTHER).replace("#", "x")
        if topic.startswith("$"):
            return
        talker.publish(topic, b"x", qos=1)
        assert [m.topic for m in wire.backlog()] == ([topic] if allowed else [])


def _check_mosquitto_wide(engine: Engine, role: str, wanted: str) -> None:
    """Mosquitto grants a filter wider than the rules and filters each message at delivery instead."""
    with login(engine, role) as wire, login(engine, "admin", "talker") as talker:
        assert wire.subscribe((wanted, 1)).codes == (1,)
        wire.backlog()
        talker.publish("elsewhere/two/status", b"x", qos=1)
        assert len(wire.backlog()) == (role == "admin")


@pytest.mark.parametrize("transport", ["tls", "ws", "wss"])
@pytest.mark.parametrize("role", ROLES)
def test_every_transport_has_the_same_rules(guarded: Engine, role: str, transport: str) -> None:
    """The whole matrix again: what it publishes, and what it is sent."""
    topics = [wanted.removeprefix("$share/g/").replace("+", OTHER).replace("#", "x") for wanted in SUBSCRIBE]
    topics = [topic for topic in topics if not topic.startswith("$")]
    allowed = [wanted for wanted, roles in SUBSCRIBE.items() if role[0] in roles]
    expected = {
        topic for topic in topics if any(matches(one.removeprefix("$share/g/"), topic) for one in allowed)
    }

    def talker() -> Talker:
        return Talker(PORTS[transport], transport, ME, role, password(role))

    with login(guarded, "admin", "watch") as watch:
        watch.subscribe(("callboard/#", 1), ("elsewhere/#", 1))
        watch.backlog()
        may = {topic for topic in PUBLISH if may_publish(guarded, role, topic)}
        with talker() as one:
            for topic in may:
                one.publish(topic, transport.encode())
        for topic in PUBLISH.keys() - may:
            with talker() as one:  # a connection of its own, for this may be its end
                one.publish(topic, transport.encode())
        seen = {message.topic for message in watch.backlog() if message.payload == transport.encode()}
        assert seen == may
        with talker() as one:
            one.subscribe(*SUBSCRIBE)
            for topic in topics:
                watch.publish(topic, b"x", qos=1)
            watch.publish(f"callboard/{ME}/command/last", b"end", qos=1)
            assert one.heard_until(b"end") == expected


@pytest.mark.parametrize("role", ROLES)
def test_retained_messages_are_delivered_by_the_same_rules(guarded: Engine, role: str) -> None:
    mine, foreign = f"callboard/{ME}/state/sensor/x", f"callboard/{OTHER}/state/sensor/x"
    with login(guarded, "admin", "talker") as talker:
        for topic in (mine, foreign, "elsewhere/r"):
            talker.publish(topic, b"x", qos=1, retain=True)
    with login(guarded, role) as wire:
        wire.subscribe((f"callboard/{ME}/#", 1), (f"callboard/{OTHER}/#", 1), ("elsewhere/#", 1))
        expected = (
            {mine}
            | ({foreign} if role != "node" else set())
            | ({"elsewhere/r"} if role == "admin" else set())
        )
        assert {m.topic for m in wire.backlog()} == expected
    for topic in (mine, foreign, "elsewhere/r"):
        drop_retained(guarded, topic)


def test_nobody_retains_a_command(guarded: Engine) -> None:
    topic = f"callboard/{OTHER}/command/control/x"
    with login(guarded, "operator") as wire:
        wire.publish(topic, b"now", qos=1, retain=True)
    with login(guarded, "admin", "late") as late:
        late.subscribe((topic, 1))
        # Mosquitto's rules cannot say this; there the node itself refuses and clears it.
        assert len(late.backlog()) == (1 if guarded.name == "mosquitto" else 0)
    drop_retained(guarded, topic)


@pytest.mark.parametrize("level", [4, 5])
def test_a_wrong_password_is_refused(guarded: Engine, level: int) -> None:
    refused = {4: {4, 5}, 5: {0x86, 0x87}}[level]
    wires = []
    for number, (username, secret) in enumerate([
        ("viewer", "wrong"), ("nobody", "x"), ("viewer", ""), ("", ""), ("viewer", b"\xff\xfe"), (None, None),
        ("viewer", None), ("VIEWER", "viewer-password"), ("viewer", "viewer-password "),
    ]):  # fmt: skip
        wires.append(Wire(guarded.address, level=level))
        wires[-1].send(p.connect(f"x{number}", level=level, username=username, password=secret))
    for number, wire in enumerate(wires):
        assert wire.receive().code in refused, number
        assert wire.is_closed()
        wire.close()


def test_a_failed_login_leaves_the_owners_session_alone(guarded: Engine) -> None:
    with (
        witness(guarded) as watch,
        login(guarded, "node", clean=False, will=Will(f"callboard/{ME}/status")) as owner,
    ):
        owner.subscribe((f"callboard/{ME}/command/#", 1))
        thieves = [Wire(guarded.address) for _ in range(5)]
        for thief in thieves:
            thief.send(p.connect(ME, username="node", password="wrong", will=Will("callboard/x", b"stolen")))
        for thief in thieves:
            assert thief.is_closed()
            thief.close()
        assert owner.is_quiet()
        watch.publish(f"callboard/{ME}/command/control/x", b"still here", qos=1)
        assert owner.message().payload == b"still here"
        assert [m.topic for m in watch.backlog()] == [f"callboard/{ME}/command/control/x"]
    login(guarded, "node").disconnect()


def test_a_client_id_belongs_to_the_user_whose_session_it_is(tmp_path: Path) -> None:
    with running("embedded", tmp_path, Options(access=True)) as engine:
        with login(engine, "node", clean=False) as owner:
            for level, refused in ((4, 2), (5, 0x85)):
                with Wire(engine.address, level=level) as thief:
                    answer = thief.connect(ME, username="viewer", password=password("viewer"))
                    assert answer.code == refused
                    assert thief.is_closed()
            assert owner.is_quiet()
        with Wire(engine.address) as thief:  # nor when its owner is away
            assert thief.connect(ME, username="operator", password=password("operator")).code == 2
        with login(engine, "node", clean=False) as owner:
            assert owner.connack.session_present


def test_nobody_can_keep_a_node_from_its_client_id(tmp_path: Path) -> None:
    with running("embedded", tmp_path, Options(access=True)) as engine:
        with login(engine, "viewer", clean=False) as squatter, login(engine, "node") as node:
            assert squatter.is_closed()
            assert node.is_quiet()
        with login(engine, "viewer", clean=False):
            pass
        engine.kill()
        engine.start()
        with login(engine, "node") as node:
            assert not node.connack.session_present


def test_an_enrolled_nodes_id_and_credential_are_good_for_each_other_alone(tmp_path: Path) -> None:
    with running("embedded", tmp_path, Options(access=True)) as engine:
        with login(engine, "node", clean=False) as before:
            _users(engine).enrol(ME, "secret")
            with engine.connect(ME, username=ME, password="secret", clean=False) as owner:
                assert before.is_closed()
                assert not owner.connack.session_present, "what the shared credential left is not his"
                _check_nobody_takes(engine, ME)
                assert owner.is_quiet()
        _check_nobody_takes(engine, ME)  # nor when it is away
        for other in (OTHER, "", "board"):
            with Wire(engine.address) as wire:
                assert wire.connect(other, username=ME, password="secret").code == 2
        login(engine, "board").disconnect()
        with engine.connect(ME, username=ME, password="secret") as owner, witness(engine) as watch:
            owner.publish(f"callboard/{ME}/status", b"x", qos=1)
            owner.publish(f"callboard/{OTHER}/status", b"x", qos=1)
            assert [m.topic for m in watch.backlog()] == [f"callboard/{ME}/status"]


@pytest.mark.parametrize("target", ["far", "board", "board-history", "ann-laptop"])
def test_nobody_pushes_another_identity_off_its_live_session(tmp_path: Path, target: str) -> None:
    """A node, a user bound to an id, and every role, at another node, at the board, and at a bound user."""
    owner = {"far": "far", "ann-laptop": "ann"}.get(target, "board")
    secrets = {role: password(role) for role in ("viewer", "operator", "node", "admin", "board")}
    secrets |= dict.fromkeys((ME, "far", "eve", "ann"), "secret")
    with running("embedded", tmp_path, Options(access=True)) as engine:
        users = _users(engine)
        for node in (ME, "far"):
            users.enrol(node, "secret")
        for name in ("eve", "ann"):
            users.put(name, Role.OPERATOR, "secret", client_id=f"{name}-laptop")
        with engine.connect(target, username=owner, password=secrets[owner], keepalive=30) as live:
            for thief in (ME, "eve", "viewer", "operator", "node", "admin"):
                with Wire(engine.address) as wire:
                    assert wire.connect(target, username=thief, password=secrets[thief]).code == 2
                    assert wire.is_closed()
            assert live.is_quiet()


def _users(engine: Engine) -> Users:
    return Users(users_file(engine.state))


def _check_nobody_takes(engine: Engine, client_id: str) -> None:
    for role in ("viewer", "operator", "node", "admin"):
        with Wire(engine.address) as thief:
            assert thief.connect(client_id, username=role, password=password(role)).code == 2
            assert thief.is_closed()


def test_an_enrolled_nodes_session_comes_back_with_its_own_rights_after_a_restart(tmp_path: Path) -> None:
    with running("embedded", tmp_path, Options(access=True)) as engine:
        _users(engine).enrol(ME, "secret")
        with engine.connect(ME, username=ME, password="secret", clean=False) as owner:
            owner.subscribe((f"callboard/{ME}/command/#", 1))
        engine.kill()
        engine.start()
        with login(engine, "operator", "ann") as operator:
            operator.publish(f"callboard/{ME}/command/control/x", b"on", qos=1)
        with engine.connect(ME, username=ME, password="secret", clean=False) as owner:
            assert owner.connack.session_present
            assert owner.message().payload == b"on"


@pytest.mark.parametrize("client_id", ["+", "#", "a/b", "pi-two/#", "$SYS", "+/x", "\u2603"])
def test_a_client_id_with_wildcards_widens_nothing(guarded: Engine, client_id: str) -> None:
    with witness(guarded) as watch:
        for topic in (
            f"callboard/{OTHER}/reply",
            f"callboard/{OTHER}/x/reply",
            f"callboard/{OTHER}/state/sensor/x",
        ):
            with Wire(guarded.address) as wire, contextlib.suppress(Closed):
                wire.connect(client_id, username="viewer", password=password("viewer"))
                wire.send(p.publish(topic, b"x"), p.PING)  # an answer or the end: it has been looked at
                wire.expect(p.PINGRESP)
        assert watch.is_quiet()


def test_version_5_is_told_what_it_may_not(guarded: Engine) -> None:
    for qos in (1, 2):
        with login(guarded, "viewer", level=5) as wire:
            answer = wire.publish("elsewhere/x", b"x", qos=qos)
            assert answer is not None
            assert answer.code == 0x87
    with login(guarded, "viewer", level=5) as wire:
        if guarded.name == "embedded":
            assert wire.subscribe("elsewhere/#").codes == (0x87,)


def test_a_kept_session_is_delivered_by_todays_rules(tmp_path: Path) -> None:
    """What was queued before a role shrank is not delivered afterwards."""
    with running("embedded", tmp_path, Options(access=True)) as engine:
        users = _users(engine)
        users.put("changing", "viewer", "changing-password")
        with login(engine, "changing", clean=False) as wire:
            wire.subscribe((f"callboard/{OTHER}/state/#", 1))
            wire.disconnect()
        with login(engine, "admin", "talker") as talker:
            talker.publish(f"callboard/{OTHER}/state/sensor/x", b"x", qos=1)
            users.put("changing", "node", "changing-password")
            with login(engine, "changing", clean=False) as wire:
                talker.publish(f"callboard/{OTHER}/state/sensor/x", b"y", qos=1)
                assert wire.is_quiet()


@pytest.mark.parametrize("how", ["disable", "remove", "put"])
def test_a_revoked_credential_ends_its_live_session_within_5_seconds(tmp_path: Path, how: str) -> None:
    """A new password revokes the old one: whoever is connected may be the reason for it."""
    with running("embedded", tmp_path, Options(access=True)) as engine:
        users = _users(engine)
        with login(engine, "node", level=5) as revoked, login(engine, "viewer", "other") as other:
            began = Stopwatch()
            getattr(users, how)("node", *(["node", "another"] if how == "put" else []))
            assert revoked.is_closed(10)
            assert began.within(5), began
            assert [m.kind for m in revoked.kept] == [p.DISCONNECT]
            assert other.is_quiet()
        with Wire(engine.address) as wire:
            assert wire.connect(ME, username="node", password=password("node")).code in {4, 5}


def test_a_changed_password_needs_the_new_one(tmp_path: Path) -> None:
    with running("embedded", tmp_path, Options(access=True)) as engine:
        login(engine, "viewer").disconnect()
        _users(engine).put("viewer", "viewer", "another")
        with Wire(engine.address) as wire:
            assert wire.connect("x", username="viewer", password=password("viewer")).code in {4, 5}
        engine.connect("x", username="viewer", password="another").disconnect()
