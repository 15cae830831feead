"""Users, roles, tokens and the audit log of a real board on a real embedded broker with access rules."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from callboard_broker.access import Users, users_file
from callboard_core.errors import ERRORS
from support import packets
from support.boards import BoardProcess, board_process, eventually
from support.engines import Engine, Options, running
from support.timing import Stopwatch
from support.users import password
from support.wire import Will, Wire


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running("embedded", tmp_path_factory.mktemp("people"), Options(access=True)) as started:
        yield started


@pytest.fixture(scope="module")
def board(engine: Engine) -> Iterator[BoardProcess]:
    credential = ("board", password("board"))
    with board_process(engine.state, engine.port, credential=credential) as started:
        yield started


@pytest.fixture
def admin(board: BoardProcess) -> Iterator[httpx.Client]:
    with board.client("admin") as client:
        yield client


@pytest.fixture
def ann(admin: httpx.Client) -> Iterator[str]:
    """An operator with the password `ann's password`."""
    body = {"name": "ann", "role": "operator", "password": "ann's password"}
    assert admin.post("/api/v1/users", json=body).status_code == 201
    yield "ann"
    admin.delete("/api/v1/users/ann")


def as_user(board: BoardProcess, name: str, secret: str) -> httpx.Client:
    return httpx.Client(base_url=board.url, auth=(name, secret), timeout=30)


def refused(response: httpx.Response, code: str, *, naming: str = "") -> None:
    assert response.status_code == ERRORS[code].http_status, response.text
    error = response.json()["error"]
    assert error["code"] == code
    assert naming in error["message"]


def entries(admin: httpx.Client, **wanted: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin.get("/api/v1/audit", params=wanted).raise_for_status().json()["items"]
    return found


def noted(admin: httpx.Client, **wanted: Any) -> dict[str, Any]:
    """The newest entry that matches, once it is there."""
    found: dict[str, Any] = eventually(lambda: entries(admin, **wanted))[0]
    return found


# ---- users


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_only_admins_look_after_people(board: BoardProcess, role: str):
    with board.client(role) as client:
        for path in ("users", "users/ann", "roles", "tokens", "audit", "audit/export"):
            refused(client.get(f"/api/v1/{path}"), "forbidden", naming="admin")
        refused(client.post("/api/v1/users", json={"name": "eve", "role": "admin"}), "forbidden")
        refused(client.post("/api/v1/tokens", json={"scope": ["read"]}), "forbidden")
        refused(client.put("/api/v1/roles/eve", json={"http": ["admin"]}), "forbidden")


HTTP = {
    ("GET", "/api/v1/nodes"): "voa",
    ("GET", "/api/v1/events?types=status"): "voa",
    ("GET", f"/api/v1/artifacts/{'0' * 64}"): "vonba",
    ("PUT", f"/api/v1/artifacts/{'0' * 64}"): "onba",
    ("DELETE", "/api/v1/nodes/nowhere"): "oa",
    ("POST", "/api/v1/jobs"): "oa",
    ("GET", "/api/v1/services/no-such-service"): "oa",
    ("GET", "/api/v1/users"): "a",
    ("GET", "/api/v1/roles"): "a",
    ("GET", "/api/v1/tokens"): "a",
    ("GET", "/api/v1/audit"): "a",
    ("GET", "/api/v1/audit/export"): "a",
    ("DELETE", "/api/v1/users/nobody"): "a",
    ("PUT", "/api/v1/roles/viewer"): "a",
}


@pytest.mark.parametrize(("method", "path"), HTTP)
@pytest.mark.parametrize("role", ["viewer", "operator", "node", "board", "admin"])
def test_a_role_may_do_over_http_exactly_what_the_matrix_says(
    board: BoardProcess, role: str, method: str, path: str
):
    with (
        board.client(role) as client,
        client.stream(method, path, json=None if method == "GET" else {}) as answer,
    ):
        assert (answer.status_code != 403) == (role[0] in HTTP[method, path]), answer.status_code
        assert answer.status_code != 401


def test_a_user_is_added_changed_disabled_and_removed(board: BoardProcess, admin: httpx.Client):
    made = admin.post("/api/v1/users", json={"name": "ben", "role": "viewer"}).json()
    assert made["user"]["rights"] == ["read"]
    with as_user(board, "ben", made["password"]) as ben:
        assert ben.get("/api/v1/me").json()["role"] == "viewer"
        assert admin.patch("/api/v1/users/ben", json={"role": "operator"}).json()["role"] == "operator"
        assert ben.get("/api/v1/me").json()["rights"] == ["command", "read"]
        assert admin.patch("/api/v1/users/ben", json={"disabled": True}).json()["disabled"]
        refused(ben.get("/api/v1/me"), "unauthorized")
        admin.patch("/api/v1/users/ben", json={"disabled": False})
        assert ben.get("/api/v1/me").is_success
        new = admin.post("/api/v1/users/ben/password", json={}).json()["password"]
        refused(ben.get("/api/v1/me"), "unauthorized")
        with as_user(board, "ben", new) as again:
            assert again.get("/api/v1/me").is_success
            assert admin.delete("/api/v1/users/ben").status_code == 204
            refused(again.get("/api/v1/me"), "unauthorized")
    refused(admin.get("/api/v1/users/ben"), "not_found", naming="ben")
    assert not any("argon2" in json.dumps(one) for one in admin.get("/api/v1/users").json()["items"])
    for what in ("add", "role", "disable", "enable", "password", "remove"):
        assert noted(admin, what=f"user.{what}", subject="ben")["who"] == "admin"


@pytest.mark.parametrize(
    ("body", "code", "naming"),
    [
        ({"name": "a b", "role": "viewer"}, "bad_request", "a b"),
        ({"name": "x/y", "role": "viewer"}, "bad_request", "x/y"),
        ({"name": "eve", "role": "boss"}, "not_found", "boss"),
        ({"name": "eve", "role": "board"}, "bad_request", "board"),
        ({"name": "eve", "role": "viewer", "password": "short"}, "bad_request", "8"),
        ({"name": "eve", "role": "viewer", "password": "two\nlines here"}, "bad_request", "password"),
        ({"name": "eve", "role": "viewer", "client_id": "a/b"}, "bad_request", "a/b"),
        ({"name": "admin", "role": "viewer"}, "conflict", "admin"),
    ],
)
def test_an_impossible_user_is_refused_by_name(
    admin: httpx.Client, body: dict[str, str], code: str, naming: str
):
    refused(admin.post("/api/v1/users", json=body), code, naming=naming)


def test_the_last_admin_stays(admin: httpx.Client):
    refused(admin.patch("/api/v1/users/admin", json={"disabled": True}), "conflict", naming="last")
    admin.post("/api/v1/users", json={"name": "root2", "role": "admin", "password": "root2's password"})
    assert admin.patch("/api/v1/users/admin", json={"disabled": True}).is_success
    with httpx.Client(base_url=admin.base_url, auth=("root2", "root2's password"), timeout=30) as other:
        for attempt in (
            other.patch("/api/v1/users/root2", json={"disabled": True}),
            other.patch("/api/v1/users/root2", json={"role": "viewer"}),
            other.delete("/api/v1/users/root2"),
        ):
            refused(attempt, "conflict", naming="last")
        assert other.patch("/api/v1/users/admin", json={"disabled": False}).is_success
    assert admin.delete("/api/v1/users/root2").status_code == 204


def test_the_boards_own_user_and_the_built_in_ones_stay(admin: httpx.Client):
    refused(admin.patch("/api/v1/users/board", json={"disabled": True}), "conflict", naming="board")
    refused(admin.post("/api/v1/users/board/password", json={}), "conflict", naming="board")
    refused(admin.delete("/api/v1/users/viewer"), "conflict", naming="disable")
    refused(admin.patch("/api/v1/users/viewer", json={"role": "admin"}), "conflict", naming="built in")


def test_a_new_password_of_a_built_in_user_is_what_this_machine_logs_in_with(
    board: BoardProcess, admin: httpx.Client
):
    from callboard_broker.access import credential_file

    file = credential_file(board.state, "viewer")
    file.parent.mkdir(exist_ok=True)
    try:
        made = admin.post("/api/v1/users/viewer/password", json={}).json()["password"]
        assert file.read_text().strip() == made
        assert file.stat().st_mode & 0o777 == 0o600
    finally:
        admin.post("/api/v1/users/viewer/password", json={"password": password("viewer")})


# ---- roles


def test_a_role_of_the_sites_own_rules_mqtt_and_http(
    board: BoardProcess, engine: Engine, admin: httpx.Client
):
    rule = {
        "publish": ["{site}/{client}/reply", "{site}/pump/command/#", "{site}/notes/{user}/#"],
        "never": ["{site}/pump/command/action/#"],
        "subscribe": ["{site}/pump/#", "{site}/{client}/reply"],
        "http": ["read"],
        "note": "waters the plants",
    }
    made = admin.put("/api/v1/roles/gardener", json=rule).json()
    assert (made["name"], made["built_in"], made["http"]) == ("gardener", False, ["read"])
    body = {"name": "gus", "role": "gardener", "password": "gus's password"}
    admin.post("/api/v1/users", json=body).raise_for_status()
    with as_user(board, "gus", "gus's password") as gus:
        assert gus.get("/api/v1/nodes").is_success
        refused(gus.delete("/api/v1/nodes/pump"), "forbidden")
    with (
        engine.connect("can", username="gus", password="gus's password") as can,
        engine.connect("watch", username="admin", password=password("admin")) as watch,
    ):
        watch.subscribe(("callboard/#", 1))
        watch.backlog()
        assert can.subscribe(("callboard/pump/state/#", 1), ("callboard/tap/#", 1)).codes == (1, 0x80)
        allowed = ["callboard/can/reply", "callboard/pump/command/control/on", "callboard/notes/gus/today"]
        for topic in (
            *allowed,
            "callboard/tap/command/control/on",
            "callboard/pump/command/action/reboot",
            "callboard/notes/ann/today",
            "callboard/can/status",
        ):
            can.publish(topic, b"{}", qos=1)
        assert [m.topic for m in watch.backlog() if m.topic.split("/")[1] != "board"] == allowed
        refused(admin.delete("/api/v1/roles/gardener"), "conflict", naming="gus")
        admin.put("/api/v1/roles/gardener", json=rule | {"publish": []}).raise_for_status()
        assert can.is_closed(50), "who has a changed role connects anew"
    with engine.connect("can", username="gus", password="gus's password") as can:
        can.publish("callboard/pump/command/control/on", b"{}", qos=1)
    admin.delete("/api/v1/users/gus")
    assert admin.delete("/api/v1/roles/gardener").status_code == 204
    refused(admin.get("/api/v1/roles/gardener"), "not_found", naming="gardener")
    assert noted(admin, what="role.add", subject="gardener")["detail"].startswith("publish {site}")


@pytest.mark.parametrize(
    ("name", "rule", "code", "naming"),
    [
        ("Gardener", {}, "bad_request", "Gardener"),
        ("viewer", {}, "conflict", "built in"),
        ("gardener", {"publish": ["{node}/x"]}, "bad_request", "{node}"),
        ("gardener", {"publish": ["a/#/b"]}, "bad_request", "a/#/b"),
        ("gardener", {"publish": ["a/b+"]}, "bad_request", "a/b+"),
        ("gardener", {"publish": [""]}, "bad_request", "publish"),
        ("gardener", {"subscribe": ["$audit/commands"]}, "bad_request", "$audit"),
        ("gardener", {"publish": ["$SYS/x"]}, "bad_request", "$SYS"),
        ("gardener", {"http": ["everything"]}, "bad_request", "http"),
    ],
)
def test_an_impossible_role_is_refused_by_name(
    admin: httpx.Client, name: str, rule: dict[str, Any], code: str, naming: str
):
    refused(admin.put(f"/api/v1/roles/{name}", json=rule), code, naming=naming)


def test_the_built_in_roles_are_shown(admin: httpx.Client):
    shown = {one["name"]: one for one in admin.get("/api/v1/roles").json()["items"]}
    assert shown["operator"]["http"] == ["read", "command"]
    assert shown["admin"]["built_in"]
    assert shown["node"]["http"] == []


# ---- tokens


def bearer(board: BoardProcess, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=board.url, headers=headers, timeout=30)


def test_a_token_has_a_part_of_its_users_rights_and_ends_with_it(
    board: BoardProcess, admin: httpx.Client, ann: str
):
    body = {"username": ann, "scope": ["read"], "note": "grafana", "expires": time.time() + 3600}
    made = admin.post("/api/v1/tokens", json=body).json()
    with bearer(board, made["token"]) as program:
        assert program.get("/api/v1/me").json() == {"username": "ann", "role": "operator", "rights": ["read"]}
        assert program.get("/api/v1/nodes").is_success
        refused(program.delete("/api/v1/nodes/pump"), "forbidden", naming="token")
        refused(program.get("/api/v1/users"), "forbidden")
        [shown] = admin.get("/api/v1/tokens", params={"username": ann}).json()["items"]
        assert "token" not in shown
        assert shown["used"] == pytest.approx(time.time(), abs=120)
        admin.patch("/api/v1/users/ann", json={"disabled": True, "keep_tokens": True})
        refused(program.get("/api/v1/nodes"), "unauthorized")
        admin.patch("/api/v1/users/ann", json={"disabled": False})
        assert program.get("/api/v1/nodes").is_success
        admin.delete("/api/v1/users/ann")
        refused(program.get("/api/v1/nodes"), "unauthorized")
        admin.post("/api/v1/users", json={"name": "ann", "role": "admin"})
        refused(program.get("/api/v1/nodes"), "unauthorized")
    assert made["token"].encode() not in (board.state / "board.db").read_bytes()


def test_a_token_takes_the_place_of_its_users_password_over_http(
    board: BoardProcess, admin: httpx.Client, ann: str
):
    token = admin.post("/api/v1/tokens", json={"username": ann, "scope": ["read"]}).json()["token"]
    with as_user(board, ann, token) as program:
        assert program.get("/api/v1/me").json()["rights"] == ["read"]
        refused(program.delete("/api/v1/nodes/pump"), "forbidden", naming="token")
    with as_user(board, "admin", token) as other:
        refused(other.get("/api/v1/me"), "unauthorized", naming="admin")
    with as_user(board, ann, "callboard_" + "x" * 43) as made_up:
        refused(made_up.get("/api/v1/me"), "unauthorized")
    refused(
        httpx.post(f"{board.url}/api/v1/session", json={"username": ann, "password": token}), "unauthorized"
    )
    with as_user(board, ann, "ann's password") as still:
        assert still.get("/api/v1/me").json()["rights"] == ["command", "read"]


def test_a_chosen_password_that_begins_like_a_token_is_one(
    board: BoardProcess, admin: httpx.Client, ann: str
):
    admin.post("/api/v1/users/ann/password", json={"password": "callboard_is_nice"}).raise_for_status()
    with as_user(board, ann, "callboard_is_nice") as person:
        assert person.get("/api/v1/me").is_success


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("how", ["password", "disable"])
def test_a_users_tokens_end_with_its_password_or_when_it_is_disabled_unless_they_are_kept(
    board: BoardProcess, admin: httpx.Client, ann: str, how: str, keep: bool
):
    made = admin.post("/api/v1/tokens", json={"username": ann, "scope": ["read"]}).json()
    others = admin.post("/api/v1/tokens", json={"username": "viewer", "scope": ["read"]}).json()
    kept = {"keep_tokens": True} if keep else {}
    if how == "password":
        done = admin.post("/api/v1/users/ann/password", json=kept)
    else:
        done = admin.patch("/api/v1/users/ann", json={"disabled": True, **kept})
        admin.patch("/api/v1/users/ann", json={"disabled": False})
    assert done.json()["tokens_ended"] == (0 if keep else 1)
    with bearer(board, made["token"]) as program, bearer(board, others["token"]) as another:
        assert program.get("/api/v1/nodes").is_success is keep
        assert another.get("/api/v1/nodes").is_success
    if not keep:
        eventually(
            lambda: (
                "1 tokens with it"
                in [one["detail"] for one in entries(admin, what=f"user.{how}", subject=ann)]
            )
        )


def test_a_token_is_removed_and_survives_a_restart(board: BoardProcess, admin: httpx.Client):
    made = admin.post("/api/v1/tokens", json={"scope": ["command", "read"]}).json()
    assert (made["username"], made["scope"]) == ("admin", ["read", "command"])
    eventually(lambda: entries(admin, what="token.add", subject=made["id"]))
    board.stop()
    board.start()
    with bearer(board, made["token"]) as program, board.client("admin") as again:
        assert program.get("/api/v1/nodes").is_success
        assert again.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
        refused(program.get("/api/v1/nodes"), "unauthorized")
        refused(again.delete(f"/api/v1/tokens/{made['id']}"), "not_found", naming="token ls")


@pytest.mark.parametrize(
    ("body", "code", "naming"),
    [
        ({"username": "viewer", "scope": ["read", "command"]}, "bad_request", "command"),
        ({"username": "node", "scope": ["read"]}, "bad_request", "none"),
        ({"username": "nobody", "scope": ["read"]}, "not_found", "nobody"),
        ({"scope": []}, "bad_request", "scope"),
        ({"scope": ["read"], "expires": 1000}, "bad_request", "expires"),
    ],
)
def test_an_impossible_token_is_refused_by_name(
    admin: httpx.Client, body: dict[str, Any], code: str, naming: str
):
    refused(admin.post("/api/v1/tokens", json=body), code, naming=naming)


# ---- revocation


@pytest.mark.parametrize("how", ["disable", "password", "remove"])
def test_a_revoked_users_sessions_end_on_every_transport_within_5_seconds(
    board: BoardProcess, engine: Engine, admin: httpx.Client, ann: str, how: str
):
    credential = {"username": ann, "password": "ann's password"}
    token = httpx.post(f"{board.url}/api/v1/session", json=credential).json()["token"]
    with (
        bearer(board, token) as logged_in,
        contextlib.closing(_events(board, httpx.BasicAuth(ann, "ann's password"))) as by_password,
        contextlib.closing(_events(board, token)) as by_token,
        engine.connect("anns", **credential) as mqtt,
    ):
        assert next(by_password) == next(by_token) == ": listening"
        assert logged_in.get("/api/v1/nodes").is_success
        since = Stopwatch()
        {
            "disable": lambda: admin.patch("/api/v1/users/ann", json={"disabled": True}),
            "password": lambda: admin.post("/api/v1/users/ann/password", json={}),
            "remove": lambda: admin.delete("/api/v1/users/ann"),
        }[how]().raise_for_status()
        refused(logged_in.get("/api/v1/nodes"), "unauthorized")
        assert mqtt.is_closed(50)
        list(by_password)
        list(by_token)
        assert since.within(5), since
    with Wire(engine.address) as wire:
        assert wire.connect("anns", **credential).code in {4, 5}


def _events(board: BoardProcess, who: httpx.Auth | str) -> Iterator[str]:
    headers = {"Authorization": f"Bearer {who}"} if isinstance(who, str) else {}
    auth = None if isinstance(who, str) else who
    with httpx.stream("GET", f"{board.url}/api/v1/events", headers=headers, auth=auth, timeout=60) as stream:
        for line in stream.iter_lines():
            if line:
                yield line


# ---- the audit log


def test_refused_log_ins_are_in_the_log_and_wrong_paths_are_not(board: BoardProcess, admin: httpx.Client):
    with as_user(board, "mallory", "guess") as mallory:
        refused(mallory.post("/api/v1/jobs", json={}), "unauthorized")
    entry = noted(admin, what="login", who="mallory")
    assert (entry["result"], entry["origin"]) == ("unauthorized", "127.0.0.1")
    refused(
        httpx.get(f"{board.url}/api/v1/nodes", headers={"Authorization": "Bearer made-up"}), "unauthorized"
    )
    assert noted(admin, what="login", result="unauthorized", who="")["detail"].startswith(
        "the token is not valid"
    )
    httpx.post(f"{board.url}/api/v1/no-such-path")
    assert admin.post("/api/v1/session", json={"username": "admin", "password": password("admin")}).is_success
    assert noted(admin, what="login", who="admin")["result"] == "ok"
    assert not entries(admin, subject="no-such-path")


def test_every_change_over_http_is_in_the_log_with_its_result(board: BoardProcess, admin: httpx.Client):
    with board.client("operator") as operator:
        refused(operator.delete("/api/v1/nodes/never-there"), "not_found")
        refused(operator.get("/api/v1/services/no-such-service"), "not_found")
    entry = noted(admin, what="DELETE", subject="never-there")
    assert (entry["who"], entry["result"], entry["origin"]) == ("operator", "not_found", "127.0.0.1")
    assert noted(admin, what="GET", subject="no-such-service")["who"] == "operator"
    with board.client("viewer") as viewer:
        refused(viewer.delete("/api/v1/nodes/tried"), "forbidden")
    assert noted(admin, subject="nodes/tried")["result"] == "forbidden"


def test_the_log_is_filtered_paged_and_exported(admin: httpx.Client):
    for number in range(5):
        admin.put(f"/api/v1/roles/page-{number}", json={"note": '=HYPERLINK("x")'}).raise_for_status()
    eventually(lambda: entries(admin, subject="page-4"))
    newest = admin.get("/api/v1/audit", params={"subject": "page-", "limit": 3}).json()
    assert [one["subject"] for one in newest["items"]] == ["page-4", "page-3", "page-2"]
    older = admin.get("/api/v1/audit", params={"subject": "page-", "before": newest["next"]}).json()
    assert [one["subject"] for one in older["items"]] == ["page-1", "page-0"]
    assert older["next"] is None
    after = entries(admin, subject="page-", after=older["items"][-1]["id"])
    assert [one["subject"] for one in after] == ["page-1", "page-2", "page-3", "page-4"]
    assert entries(admin, what="role", result="ok", since=newest["items"][0]["t"])
    assert not entries(admin, what="role", result="failed", subject="page-")
    assert not entries(admin, what="rol")
    assert not entries(admin, subject="page-", until=1000)
    text = admin.get("/api/v1/audit/export", params={"subject": "page-"}).text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["subject"] for row in rows] == [f"page-{number}" for number in range(5)]
    lines = admin.get(
        "/api/v1/audit/export", params={"subject": "page-", "format": "jsonl"}
    ).text.splitlines()
    assert [json.loads(line)["subject"] for line in lines] == [row["subject"] for row in rows]


def send(client: Wire, topic: str, **call: Any) -> None:
    client.publish(topic, json.dumps(call).encode(), qos=1)


def test_every_command_over_mqtt_is_in_the_log_by_who_really_sent_it(
    engine: Engine, admin: httpx.Client, ann: str
):
    fan, reply = "callboard/pump/command/control/fan", "callboard/anns-phone/reply"
    with (
        engine.connect("pump", username="node", password=password("node")) as pump,
        engine.connect("anns-phone", username=ann, password="ann's password") as phone,
    ):
        pump.subscribe(("callboard/pump/command/#", 1))
        call = {"args": {"user": "admin"}, "expires": time.time() + 600, "user": "admin"}
        for number, answer in enumerate([
            {"ok": True, "result": 3}, {"ok": False, "error": {"code": "expired", "message": "late"}},
        ]):  # fmt: skip
            send(phone, f"{fan}-{number}", id=str(number), reply_to=reply, **call)
            pump.message()
            send(pump, reply, id=str(number), **answer)
        send(phone, f"{fan}-2", id="2", reply_to=reply, expires=time.time())
        phone.publish(f"{fan}-3", b"no JSON", qos=0)
    for number, result in enumerate(["ok", "expired", "timeout", "sent"]):
        entry = noted(admin, what="command", subject=f"{fan}-{number}")
        told = (entry["who"], entry["origin"], entry["result"], entry["count"])
        assert told == ("ann", "127.0.0.1 anns-phone", result, 1)


def test_refused_commands_and_those_of_last_wills_are_in_the_log(engine: Engine, admin: httpx.Client):
    with engine.connect("peeping", username="viewer", password=password("viewer")) as viewer:
        send(viewer, "callboard/pump/command/action/open", id="1")
    entry = noted(admin, what="command", subject="pump/command/action/open")
    assert (entry["who"], entry["result"]) == ("viewer", "forbidden")
    will = Will("callboard/pump/command/action/close", b"{}")
    engine.connect("dying", username="operator", password=password("operator"), will=will).close()
    assert noted(admin, what="command", subject="action/close")["who"] == "operator"


def guesses(admin: httpx.Client, client_id: str) -> list[dict[str, Any]]:
    found = entries(admin, what="login", result="unauthorized")
    return [one for one in found if one["origin"].endswith(f" {client_id}")]


def test_refused_log_ins_over_mqtt_are_in_the_log(engine: Engine, admin: httpx.Client):
    with contextlib.ExitStack() as open_ones:
        for number in range(8):  # from the sixth on the answer is late; the log does not wait for it
            guesser = open_ones.enter_context(Wire(engine.address))
            guesser.send(packets.connect("burglar", username="mallory", password=f"guess {number}"))
            if number < 5:
                guesser.receive()
        eventually(lambda: sum(one["count"] for one in guesses(admin, "burglar")) == 8)
    newest = guesses(admin, "burglar")[0]
    assert (newest["origin"], newest["who"], newest["subject"]) == ("127.0.0.1 burglar", "mallory", "mallory")
    Users(users_file(engine.state)).enrol("pi-9", "pi-9's password")
    with Wire(engine.address) as thief:
        assert thief.connect("pi-9", username="node", password=password("node")).code == 2
    assert noted(admin, what="login", who="node")["result"] == "forbidden"


@pytest.mark.parametrize("role", ["viewer", "operator", "node", "board", "admin"])
def test_only_board_and_admins_hear_who_sends_commands_and_nobody_can_make_it_up(engine: Engine, role: str):
    may = role in {"board", "admin"}
    with engine.connect(f"ear-{role}", username=role, password=password(role)) as ear:
        assert ear.subscribe(("$audit/commands", 1)).codes == ((1,) if may else (0x80,))
        assert ear.subscribe(("$audit/#", 1)).codes == (0x80,)
        ear.subscribe(("$SYS/#", 1))
        ear.publish("$audit/commands", b"[]", qos=1)
        with engine.connect("caller", username="operator", password=password("operator")) as caller:
            send(caller, f"callboard/pump/command/action/{role}")
        if may:
            told: list[str] = []
            while not any(role in text for text in told):
                message = ear.message()
                told += [message.payload.decode()] if message.topic == "$audit/commands" else []
            assert "[]" not in told
        else:
            assert not any(message.topic.startswith("$audit") for message in ear.backlog())
