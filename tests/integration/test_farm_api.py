"""The JSON API of the farm: items are read, made, changed and deleted; all that match in one transaction or none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_broker.services.farm.items.base import pick, wanted
from callboard_core.errors import Forbidden
from support.farm_alone import FarmAlone, farm_alone

__all__ = ["farm_alone"]


def submit(farm: FarmAlone, frames: str = "1-4", **more) -> dict:
    values = {
        "type": "render",
        "name": "cube",
        "settings": {"engine": "simulated", "frames": frames, "chunk": 2},
    }
    return farm.ask("job", "create", values={**values, **more})["items"][0]


def test_a_job_is_made_read_changed_and_deleted(farm_alone):
    made = submit(farm_alone, project="Dune", shot="010", priority=60, tags=["quick"])
    assert made["owner"] == "ann"
    assert (made["status"], made["frames"], made["waiting"]) == ("queued", 4, 4)
    assert (made["project"], made["shot"]) == ("Dune", "010")
    (found,) = farm_alone.read("job", owner="ann", project="Dune", priority={"from": 60})
    assert found["id"] == made["id"]
    assert (
        farm_alone.ask("job", "update", filters={"id": made["id"]}, values={"priority": 80, "note": "soon"})[
            "count"
        ]
        == 1
    )
    (found,) = farm_alone.read("job", note="soon")
    assert found["priority"] == 80
    assert farm_alone.ask("job", "delete", filters={"id": made["id"]})["count"] == 1
    assert farm_alone.read("job") == []


def test_all_that_match_are_updated_in_one_transaction(farm_alone):
    for name in ("a", "b", "c"):
        submit(farm_alone, name=name)
    batches = farm_alone.farm.desk.batches
    asked = {
        "filters": {"name": ["a", "b"], "status": "queued"},
        "values": {"priority": 90, "status": "paused"},
    }
    assert farm_alone.ask("job", "update", **asked)["count"] == 2
    assert farm_alone.farm.desk.batches == batches + 1
    assert {row["name"]: (row["priority"], row["status"]) for row in farm_alone.read("job")} == {
        "a": (90, "paused"),
        "b": (90, "paused"),
        "c": (50, "queued"),
    }


def test_nothing_is_changed_when_one_of_them_cannot_be(farm_alone):
    first, second = submit(farm_alone, name="a"), submit(farm_alone, name="b")
    farm_alone.ask("job", "update", filters={"id": second["id"]}, values={"status": "cancelled"})
    told = farm_alone.refused("job", "update", filters={}, values={"status": "paused", "priority": 1})
    assert told == f"conflict: job {second['id']} is cancelled and cannot become paused"
    assert [row["priority"] for row in farm_alone.read("job")] == [50, 50]
    assert farm_alone.read("job", id=first["id"])[0]["status"] == "queued"


def test_a_job_that_is_done_is_not_queued_again_but_its_frames_are(farm_alone):
    job = submit(farm_alone, "1")["id"]
    farm_alone.slot("n1")
    farm_alone.given()
    farm_alone.say(0, {"what": "frame", "frame": 1, "name": "a", "seconds": 0.2}, {"what": "done"})
    told = farm_alone.refused("job", "update", filters={"status": "done"}, values={"status": "queued"})
    assert told == f"conflict: job {job} is done and cannot become queued"
    farm_alone.ask("frame", "update", filters={"job": job, "number": 1}, values={"status": "waiting"})
    assert farm_alone.read("job")[0]["status"] in {"queued", "active"}


@pytest.mark.parametrize("status", ["held", "paused", "cancelled"])
def test_a_status_leads_back_to_queued(farm_alone, status):
    submit(farm_alone)
    farm_alone.ask("job", "update", filters={}, values={"status": status})
    assert farm_alone.read("job")[0]["status"] == status
    assert farm_alone.ask("job", "update", filters={}, values={"status": status})["count"] == 1
    farm_alone.ask("job", "update", filters={}, values={"status": "queued"})
    assert farm_alone.read("job")[0]["status"] == "queued"


def test_clients_are_disabled_by_filter_and_that_outlives_the_board(farm_alone):
    for node in ("n1", "n2"):
        farm_alone.slot(node)
    farm_alone.slot("n2", "s2")
    asked = {
        "filters": {"id": "n2", "status": "enabled"},
        "values": {"status": "disabled", "note": "too hot"},
    }
    assert farm_alone.ask("client", "update", **asked)["count"] == 1
    assert farm_alone.ask("client", "update", **asked)["count"] == 0
    told = [(node, do) for node, _, do in farm_alone.slots.told if do == "disable"]
    assert told == [("n2", "disable")] * 2
    farm_alone.end()
    farm_alone.begin()
    found = {
        row["id"]: (row["status"], row["note"], row["live"], row["slots"])
        for row in farm_alone.read("client")
    }
    assert found == {"n1": ("enabled", "", False, 1), "n2": ("disabled", "too hot", False, 2)}
    farm_alone.slot("n1")
    assert [row["live"] for row in farm_alone.read("client", id="n1")] == [True]
    farm_alone.ask("client", "update", filters={"status": "disabled"}, values={"status": "enabled"})
    (again,) = farm_alone.read("client", id="n2")
    assert (again["status"], again["note"]) == ("enabled", ""), "it is not too hot any more"


def test_single_slots_are_drained_tagged_and_forgotten(farm_alone):
    farm_alone.slot("n1", "s1")
    farm_alone.slot("n1", "s2")
    farm_alone.ask("slot", "update", filters={"id": "n1/s2"}, values={"status": "draining", "tags": ["gpu"]})
    assert farm_alone.read("client")[0]["status"] == "mixed"
    assert farm_alone.read("slot", status="draining")[0]["tags"] == ["gpu", "quick"]
    assert "only what is gone can be forgotten" in farm_alone.refused(
        "slot", "delete", filters={"id": "n1/s2"}
    )
    farm_alone.end()
    farm_alone.begin()
    assert farm_alone.ask("client", "delete", filters={"id": "n1"})["count"] == 1
    assert farm_alone.read("slot") == []


def test_shows_hold_sequences_and_those_shots(farm_alone):
    ask = farm_alone.ask
    ask("show", "create", values={"name": "Dune"})
    ask("sequence", "create", values={"name": "sq1", "project": "Dune"})
    (shot,) = ask(
        "shot", "create", values={"name": "010", "project": "Dune", "sequence": "sq1", "note": "sand"}
    )["items"]
    assert (shot["project"], shot["sequence"], shot["owner"], shot["jobs"]) == ("Dune", "sq1", "ann", 0)
    submit(farm_alone, project="Dune", sequence="sq1", shot="010")
    assert farm_alone.read("shot", jobs=1)[0]["id"] == shot["id"]
    assert farm_alone.read("job")[0]["sequence"] == "sq1"
    assert farm_alone.refused("project", "delete", filters={"name": "Dune"}).startswith(
        "conflict: project 'Dune' still holds"
    )
    assert (
        farm_alone.refused("show", "create", values={"name": "Dune"})
        == "conflict: there is a project 'Dune' already"
    )
    assert (
        farm_alone.refused("shot", "create", values={"name": "x", "project": "Arrakis"})
        == "not_found: there is no project 'Arrakis'"
    )
    ask("job", "delete", filters={})
    ask("shot", "delete", filters={"name": {"like": "01*"}})
    ask("sequence", "update", filters={}, values={"name": "sq2", "owner": "bob"})
    assert [(row["name"], row["owner"]) for row in farm_alone.read("sequence")] == [("sq2", "bob")]


def test_tasks_and_frames_are_followed_and_taken_back(farm_alone):
    farm_alone.ask("setting", "update", filters={"name": "schedule.prefetch_seconds"}, values={"value": 0})
    job = submit(farm_alone, "1-3")["id"]
    farm_alone.slot("n1")
    (work, *_) = farm_alone.given()
    assert work["frames"] == [1, 2]
    (task,) = farm_alone.read("order", status="assigned")
    assert (task["job"], task["frames"], task["client"], task["step"]) == (job, "1-2", "n1", "render")
    farm_alone.say(
        0, {"what": "started", "seconds": 0.1}, {"what": "frame", "frame": 1, "name": "a", "seconds": 0.2}
    )
    rows = {row["number"]: row for row in farm_alone.read("frame", job=job)}
    assert [rows[number]["status"] for number in (1, 2, 3)] == ["done", "rendering", "waiting"]
    assert (rows[1]["seconds"], rows[2]["client"], rows[1]["attempt"]) == (0.2, "n1", work["attempt"])
    assert [rows[number]["client"] for number in (1, 3)] == ["n1", None]
    told = farm_alone.refused(
        "frame", "update", filters={"job": job, "number": 2}, values={"status": "cancelled"}
    )
    assert told == f"conflict: frame 2 of job {job} is rendering; cancel its task"
    farm_alone.ask("frame", "update", filters={"job": job, "number": 3}, values={"status": "cancelled"})
    assert farm_alone.read("frame", job=job, status="cancelled")[0]["number"] == 3
    farm_alone.ask("order", "update", filters={"id": task["id"]}, values={"status": "waiting"})
    farm_alone.say(0, {"what": "cancelled"})
    second = farm_alone.given(2)[1]
    assert second["frames"] == [2]
    assert second["attempt"] != work["attempt"]
    farm_alone.say(1, {"what": "frame", "frame": 2, "name": "b", "seconds": 0.2}, {"what": "done"})
    ended = {row["attempt"]: row["status"] for row in farm_alone.read("task", job=job)}
    assert ended[second["attempt"]] == "done"
    assert len(ended) == 2
    assert farm_alone.read("job", id=job)[0]["done"] == 2
    assert [row["number"] for row in farm_alone.read("frame", job=job, attempt=second["attempt"])] == [2]
    assert [row["number"] for row in farm_alone.read("frame", job=job, client="n1")] == [1, 2]
    farm_alone.ask(
        "frame", "update", filters={"job": job, "status": ["done", "cancelled"]}, values={"status": "waiting"}
    )
    assert farm_alone.read("job", id=job)[0]["done"] == 0
    told = farm_alone.refused(
        "task", "update", filters={"job": job, "attempt": second["attempt"]}, values={"status": "cancelled"}
    )
    assert "is done; requeue its frames instead" in told


def test_settings_hold_at_once_and_over_a_restart_until_they_are_deleted(farm_alone):
    farm_alone.ask("setting", "update", filters={"name": "retry.node_tries"}, values={"value": 9})
    farm_alone.ask("setting", "update", filters={"name": "limits"}, values={"value": {"nuke": 2}})
    assert farm_alone.farm.core.settings.retry.node_tries == 9
    farm_alone.end()
    farm_alone.begin()
    assert {row["name"]: row["value"] for row in farm_alone.read("setting", changed=True)} == {
        "retry.node_tries": 9,
        "limits": {"nuke": 2},
    }
    assert farm_alone.refused(
        "setting", "update", filters={"name": "lease"}, values={"value": -1}
    ).startswith("bad_request: lease: ")
    farm_alone.ask("setting", "delete", filters={"changed": True})
    assert farm_alone.farm.core.settings == farm_alone.settings
    farm_alone.end()
    farm_alone.begin()
    assert farm_alone.read("setting", changed=True) == []


WRONG = [
    ({"item": "cilent", "action": "read"}, "item: 'cilent' is unknown; there are client, slot, project, sequence"),
    ({"item": "job", "action": "destroy"}, "action: 'destroy' is unknown; there are create, read, update, delete"),
    ({"action": "read"}, "item: missing; it is required"),
    ({"item": "client"}, "action: missing; it is required"),
    ({"item": "client", "action": "update", "filter": "enabled"}, "filter: unknown; a request has item, action, filters, values, fields, limit, offset; did you mean 'filters'?"),
    ({"item": "client", "action": "read", "filters": "enabled"}, "filters: expected"),
    ({"item": "client", "action": "read", "filters": {"stauts": 1}}, "filters.stauts: unknown; a client has id, name, status"),
    ({"item": "job", "action": "read", "filters": {"name": {"is": 1}}}, "filters.name: expected a value, a list, or an object with like, from, to, not"),
    ({"item": "job", "action": "read", "values": {"name": 1}}, "values: nothing is written by read"),
    ({"item": "job", "action": "read", "fields": ["nme"]}, "fields: 'nme' is unknown"),
    ({"item": "job", "action": "create", "filters": {"id": 1}}, "filters: nothing is looked up by create"),
    ({"item": "job", "action": "create", "values": {"typ": "render"}}, "values.typ: unknown; to create a job takes type, name"),
    ({"item": "job", "action": "create", "values": {}}, "values.type: missing"),
    ({"item": "job", "action": "create", "values": {"type": "render", "settings": {"frames": "9-1"}}}, "settings.frames: '9-1' runs backwards"),
    ({"item": "job", "action": "update", "values": {"priority": 1}}, "filters: missing; say which jobs, or {} for all"),
    ({"item": "job", "action": "update", "filters": {}}, "values: missing"),
    ({"item": "job", "action": "update", "filters": {}, "values": {"id": 1}}, "values.id: unknown; to update a job takes status, name"),
    ({"item": "job", "action": "update", "filters": {}, "values": {"priority": 101}}, "values.priority: expected"),
    ({"item": "job", "action": "delete"}, "filters: missing"),
    ({"item": "client", "action": "create", "values": {}}, "action: a client cannot be created: it is there as soon as"),
    ({"item": "frame", "action": "read"}, "filters.job: missing; frames are looked up by it"),
    ({"item": "frame", "action": "read", "filters": {"job": {"from": 1}}}, "filters.job: expected a job's id"),
    ({"item": "frame", "action": "delete", "filters": {"job": 1}}, "action: a frame cannot be deleted"),
    ({"item": "order", "action": "create", "values": {}}, "action: a task cannot be created"),
    ({"item": "setting", "action": "update", "filters": {}, "values": {}}, "values.value: missing"),
]  # fmt: skip


def test_what_is_wrong_is_told_with_what_would_be_right(farm_alone):
    for request, says in WRONG:
        told = (
            farm_alone.refused(**{"item": None, "action": None} | request)
            if {"item", "action"} <= request.keys()
            else refused(farm_alone, request)
        )
        assert told.startswith(f"bad_request: {says}"), told


def refused(farm: FarmAlone, request: dict) -> str:
    with pytest.raises(Exception) as caught:
        farm.api.handle(request, who="ann")
    return f"{caught.value.code}: {caught.value.message}"


def test_who_may_only_read_changes_nothing(farm_alone):
    with pytest.raises(Forbidden, match="takes the role operator"):
        farm_alone.api.handle({"item": "job", "action": "delete", "filters": {}}, who="v", may_write=False)
    assert farm_alone.api.handle({"item": "job", "action": "read"}, who="v", may_write=False)["count"] == 0


def test_long_answers_are_read_in_parts_and_with_some_fields(farm_alone):
    job = submit(farm_alone, "1-2500")["id"]
    answer = farm_alone.ask("frame", filters={"job": job}, fields=["number"], limit=2, offset=1000)
    assert (answer["count"], answer["items"]) == (2500, [{"number": 1001}, {"number": 1002}])
    assert len(farm_alone.read("frame", job=int(job))) == 1000


def test_every_item_is_described_and_gives_rows_of_its_fields(farm_alone):
    farm_alone.slot("n1")
    submit(farm_alone, project="P", sequence="S", shot="T")
    farm_alone.given()
    told = farm_alone.api.describe()
    for name, item in told.items():
        for row in farm_alone.read(name, **({"job": 1} if name in {"frame", "task"} else {})):
            assert set(row) == set(item["fields"]), name
    assert "show" in told["project"]["aliases"]


@pytest.mark.parametrize(
    ("value", "asked", "expected"),
    [
        ("a", "a", True),
        ("7", 7, True),
        (7, "7", True),
        (1, True, False),
        (True, True, True),
        (None, None, True),
        (None, "None", False),
        (["x", "y"], "y", True),
        (["x"], ["y", "x"], True),
        ("Shot 010", {"like": "shot*"}, True),
        (5, {"from": 5, "to": 6}, True),
        (7, {"from": 5, "to": 6}, False),
        (None, {"from": 5}, False),
        ("a", {"not": ["a", "b"]}, False),
        (None, {"not": None}, False),
    ],
)
def test_filters_pick_what_people_mean(value, asked, expected):
    assert wanted(value, asked) is expected


@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5)))
def test_a_list_asks_for_any_of_its_members(values, asked):
    rows = [{"n": value} for value in values]
    assert [row["n"] for row in pick(rows, {"n": asked})] == [value for value in values if value in asked]
