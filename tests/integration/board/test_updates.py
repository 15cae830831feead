"""The board sends updates: what is published and signed, in which order nodes get it, and what becomes of it."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from callboard_broker.access import Users, users_file
from callboard_broker.access.authority import Authority
from callboard_core.callee import Callee
from callboard_core.cards import ActionCard, NodeCard
from callboard_core.errors import Conflict
from callboard_core.link import Credential, Endpoint, Link
from callboard_core.messages import State
from callboard_core.presence import Presence, new_instance
from callboard_core.topics import Kind
from callboard_core.updates import Report, Signed, Stage, open_signed
from support.boards import PASSWORDS, board_process, eventually
from support.engines import running

WHEEL = b"a wheel"
CONFIG = b"[node]\nlabel = 'Greenhouse'\n"


class Updatable:
    """A node that takes updates, and does with them what its test says."""

    def __init__(self, port: int, name: str, *, tags: tuple[str, ...] = ()) -> None:
        self.name = name
        self.got: list[Signed] = []
        self.refuse: Exception | None = None
        self.before_answer: Callable[[], object] = lambda: None
        self.came = threading.Event()
        endpoint, credential = Endpoint("127.0.0.1", port), Credential("node", PASSWORDS["node"])
        self.link = Link(client_id=name, endpoint=endpoint, credential=credential)
        card = NodeCard(name=name, epoch=1, version="0.1.0", tags=list(tags))
        self.presence = Presence(self.link, card=card, epoch=1, instance=new_instance())
        self.callee = Callee(self.link, self.presence)
        self.callee.handle(Kind.ACTION, "update", self.take)
        self.presence.pin(ActionCard(name="update", epoch=1))
        self.link.start()
        self.link.wait_connected(20)

    def take(self, request):
        if self.refuse is not None:
            raise self.refuse
        signed = Signed.model_validate(dict(request.args))
        self.got.append(signed)
        self.came.set()
        self.before_answer()
        return self.report(Stage.FETCHING).model_dump(mode="json")

    def report(self, stage, **more):
        last = self.got[-1]
        return Report(id=last.id, number=1, kind="release", stage=stage, running="0.2.0", **more)

    def tell(self, stage, **more):
        data = self.report(stage, **more).model_dump(mode="json", exclude_none=True)
        self.presence.state(Kind.ACTION, "update", State(v="running", t=time.time(), data=data)).result(10)

    def close(self):
        self.callee.close()
        self.link.stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A broker, and a board on it that can sign."""
    folder = tmp_path_factory.mktemp("updates")
    with running("embedded", folder / "broker") as engine:
        state = folder / "board"
        state.mkdir()
        Authority(state, "callboard").ensure(["localhost"])
        with board_process(state, engine.port, credential=("board", PASSWORDS["board"])) as board:
            yield engine.port, board


@pytest.fixture
def nodes(place):
    """Makes nodes; they are gone at the end."""
    with contextlib.ExitStack() as stack:

        def make(*names, **more):
            found = [Updatable(place[0], name, **more) for name in names]
            for node in found:
                stack.callback(node.close)
            with place[1].client() as client:
                for name in names:
                    eventually(
                        lambda name=name: client.get(f"/api/v1/nodes/{name}").json().get("status") == "ready"
                    )
            return found

        yield make


@pytest.fixture
def client(place):
    with place[1].client() as found:
        yield found


def put(client: httpx.Client, data: bytes, name: str) -> dict:
    sha256 = hashlib.sha256(data).hexdigest()
    client.put(f"/api/v1/artifacts/{sha256}", content=data).raise_for_status()
    return {"name": name, "sha256": sha256, "size": len(data)}


def publish(client: httpx.Client, **more) -> int:
    file = put(client, WHEEL, "callboard-0.2.0-py3-none-any.whl")
    draft = {"kind": "release", "version": "0.2.0", "files": [file], **more}
    return client.post("/api/v1/updates/manifests", json=draft).raise_for_status().json()["number"]


def begin(client: httpx.Client, number: int, nodes: list[Updatable], **terms) -> str:
    wish = {"number": number, "nodes": [node.name for node in nodes], "terms": terms}
    return client.post("/api/v1/updates", json=wish).raise_for_status().json()["id"]


def look(client: httpx.Client, name: str) -> tuple[str, dict[str, str]]:
    found = client.get(f"/api/v1/updates/{name}").raise_for_status().json()
    return found["state"], {one["node"]: one["stage"] for one in found["nodes"]}


def await_stage(client, name, **stages):
    return eventually(lambda: look(client, name)[1] | stages == look(client, name)[1])


def test_what_is_published_is_numbered_and_signed_by_the_board(place, client, nodes):
    (node,) = nodes("signed-1")
    number = publish(client)
    assert publish(client) == number + 1
    begin(client, number, [node])
    assert node.came.wait(20)
    key = Authority(place[1].state, "callboard").update_key
    manifest = open_signed(node.got[0], key)
    assert (manifest.number, manifest.version, manifest.site) == (number, "0.2.0", "callboard")
    node.tell(Stage.HEALTHY)
    eventually(lambda: look(client, node.got[0].id.partition(".")[0])[0] == "done")


def test_the_canary_is_first_and_the_others_follow_once_it_is_well(client, nodes):
    first, second, third = nodes("canary-1", "canary-2", "canary-3")
    update = begin(client, publish(client), [first, second, third])
    assert first.came.wait(20)
    first.tell(Stage.TRIAL)
    await_stage(client, update, **{"canary-1": "trial", "canary-2": "waiting"})
    assert not second.got
    first.tell(Stage.HEALTHY)
    assert second.came.wait(20)
    assert third.came.wait(20)
    second.tell(Stage.HEALTHY)
    third.tell(Stage.HEALTHY)
    eventually(lambda: look(client, update)[0] == "done")


def test_what_a_node_says_before_its_answer_is_there_is_not_undone_by_it(client, nodes):
    (node,) = nodes("early-1")
    answered = threading.Event()

    def say_more():
        node.tell(Stage.TRIAL)
        eventually(lambda: look(client, node.got[0].id.partition(".")[0])[1] == {"early-1": "trial"})
        answered.set()

    node.before_answer = say_more
    update = begin(client, publish(client), [node])
    assert answered.wait(60)
    node.before_answer = lambda: None
    node.link.round_trip(20).result()  # the answer is out
    with pytest.raises(AssertionError):
        eventually(lambda: look(client, update)[1] != {"early-1": "trial"}, timeout=1)
    node.tell(Stage.HEALTHY)
    eventually(lambda: look(client, update)[0] == "done")


def test_a_failure_stops_it_until_somebody_goes_on(client, nodes):
    first, second = nodes("fail-1", "fail-2")
    update = begin(client, publish(client), [first, second])
    assert first.came.wait(20)
    first.tell(Stage.ROLLED_BACK, reason="the node was not well within 60 s")
    eventually(lambda: look(client, update)[0] == "paused")
    assert not second.got
    client.post(f"/api/v1/updates/{update}", json={"action": "resume"}).raise_for_status()
    assert second.came.wait(20)
    second.tell(Stage.HEALTHY)
    eventually(lambda: look(client, update) == ("done", {"fail-1": "rolled-back", "fail-2": "healthy"}))
    (past,) = client.get("/api/v1/updates/nodes/fail-1").json()["items"]
    assert (past["stage"], past["reason"]) == ("rolled-back", "the node was not well within 60 s")


def test_what_waits_can_be_cancelled(client, nodes):
    first, second = nodes("cancel-1", "cancel-2")
    update = begin(client, publish(client), [first, second])
    assert first.came.wait(20)
    client.post(f"/api/v1/updates/{update}", json={"action": "cancel"}).raise_for_status()
    assert look(client, update)[1]["cancel-2"] == "cancelled"
    first.tell(Stage.HEALTHY)
    eventually(
        lambda: look(client, update) == ("cancelled", {"cancel-1": "healthy", "cancel-2": "cancelled"})
    )
    assert client.post(f"/api/v1/updates/{update}", json={"action": "resume"}).status_code == 409


def test_a_node_that_refuses_says_why(client, nodes):
    (node,) = nodes("refuse-1")
    node.refuse = Conflict("number 1 is not newer")
    update = begin(client, publish(client), [node])
    eventually(lambda: look(client, update)[1] == {"refuse-1": "failed"})
    (found,) = client.get(f"/api/v1/updates/{update}").json()["nodes"]
    assert found["reason"] == "number 1 is not newer"


def test_two_updates_of_one_node_do_not_meet(client, nodes):
    (node,) = nodes("twice-1")
    number = publish(client)
    update = begin(client, number, [node])
    assert node.came.wait(20)
    answer = client.post("/api/v1/updates", json={"number": number, "nodes": ["twice-1"]})
    assert answer.status_code == 409
    assert update in answer.json()["error"]["message"]
    node.tell(Stage.HEALTHY)


def test_nodes_are_chosen_by_their_tags(client, nodes):
    (node,) = nodes("tagged-1", tags=("heated",))
    nodes("tagged-2")
    number = publish(client)
    found = client.post("/api/v1/updates", json={"number": number, "tags": ["heated"]}).json()
    assert [one["node"] for one in found["nodes"]] == ["tagged-1"]
    assert node.came.wait(20)
    node.tell(Stage.HEALTHY)


@pytest.mark.parametrize(
    ("wish", "status", "says"),
    [
        ({"number": 10_000, "all": True}, 404, "10000"),
        ({"number": 1, "nodes": ["nobody"]}, 404, "nobody"),
        ({"number": 1}, 400, "nobody is meant"),
        ({"number": 1, "tags": ["unheard-of"]}, 400, "nobody is meant"),
    ],
)
def test_wrong_wishes_are_refused(client, wish, status, says):
    publish(client)
    answer = client.post("/api/v1/updates", json=wish)
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]


def test_what_is_published_must_be_there_and_make_sense(client):
    file = {"name": "callboard-1-py3-none-any.whl", "sha256": "0" * 64, "size": 1}
    wrong = client.post(
        "/api/v1/updates/manifests", json={"kind": "release", "version": "1", "files": [file]}
    )
    assert wrong.status_code == 404
    there = put(client, CONFIG, "callboard.toml")
    for change in ({"name": "../x"}, {"size": 1}, {"path": "/a/../b"}):
        draft = {"kind": "files", "files": [there | change]}
        assert client.post("/api/v1/updates/manifests", json=draft).status_code == 400
    bad = put(client, b"[node]\nkeepalife = 1\n", "callboard.toml")
    answer = client.post("/api/v1/updates/manifests", json={"kind": "config", "files": [bad]})
    assert answer.status_code == 400
    assert "keepalive" in answer.json()["error"]["message"]


def test_only_operators_update_and_viewers_look(place, client):
    number = publish(client)
    with place[1].client("viewer") as viewer:
        assert viewer.get("/api/v1/updates").status_code == 200
        assert viewer.post("/api/v1/updates", json={"number": number, "all": True}).status_code == 403
        draft = {"kind": "files", "files": [put(client, CONFIG, "c")]}
        assert viewer.post("/api/v1/updates/manifests", json=draft).status_code == 403


def test_updates_are_in_the_audit_log(place, client, nodes):
    (node,) = nodes("audit-1")
    update = begin(client, publish(client), [node])
    assert node.came.wait(20)
    node.tell(Stage.HEALTHY)
    with place[1].client("admin") as admin:
        what = {"what": "update"}
        eventually(
            lambda: (
                {("update.begin", update), ("update", "audit-1")}
                <= {
                    (one["what"], one["subject"])
                    for one in admin.get("/api/v1/audit", params=what).json()["items"]
                }
            )
        )


def test_an_update_goes_on_when_the_board_was_killed(place, nodes):
    (node,) = nodes("killed-1")
    with place[1].client() as client:
        update = begin(client, publish(client), [node])
        assert node.came.wait(20)
        await_stage(client, update, **{"killed-1": "fetching"})
    place[1].kill()
    node.tell(Stage.HEALTHY)
    place[1].start()
    with place[1].client() as client:
        eventually(lambda: look(client, update) == ("done", {"killed-1": "healthy"}))


def test_what_was_pushed_is_for_its_nodes_and_operators_alone(place, client):
    """Settings may hold secrets, and everybody who reads sees the hashes of what was published."""
    port, board = place
    del port
    users = Users(users_file(board.state))
    for node in ("pushed-1", "other-1"):
        users.enrol(node, f"password of {node}")
    secret = put(client, b"[node]\nlabel = 'secret'\n", "callboard.toml")
    path = f"/api/v1/artifacts/{secret['sha256']}"
    publish(client, kind="config", version="", files=[secret], nodes=["pushed-1"])
    wheel = f"/api/v1/artifacts/{put(client, WHEEL, 'a.whl')['sha256']}"

    def may(user: str, password: str) -> bool:
        with httpx.Client(base_url=board.url, auth=(user, password), timeout=30) as somebody:
            assert somebody.get(wheel).is_success, "what is not secret"
            part = somebody.get(path, headers={"Range": "bytes=0-9"})
            found = {somebody.get(path).status_code, somebody.head(path).status_code, part.status_code}
            assert found in ({403}, {200, 206})
            return found != {403}

    def all_of_them() -> dict[str, bool]:
        own = {node: f"password of {node}" for node in ("pushed-1", "other-1")}
        return {user: may(user, word) for user, word in {**PASSWORDS, **own}.items() if user != "board"}

    theirs = {"operator": True, "admin": True, "pushed-1": True}
    assert all_of_them() == {"viewer": False, "node": False, "other-1": False, **theirs}
    board.kill()
    board.start()
    with board.client() as again:
        assert all_of_them() == {"viewer": False, "node": False, "other-1": False, **theirs}
        publish(again, kind="files", version="", files=[secret], nodes=["shares-a-user"])
        assert all_of_them() == {"viewer": False, "node": True, "other-1": False, **theirs}
        publish(again, kind="files", version="", files=[secret])
        assert all_of_them() == {"viewer": False, "node": True, "other-1": True, **theirs}
