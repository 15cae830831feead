"""A farm from the shell: submit, list, watch, ask why, steer, download; and its slots and projects."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from callboard_console.cli.board_http import BoardApi, path
from callboard_console.cli.main import main
from callboard_core.errors import BadRequest, Forbidden
from callboard_core.link import Credential
from callboard_core.topics import BOARD, Address, Kind, Leaf
from support.up import CALLBOARD, Up, eventually, running_board

SLOTS = {"CALLBOARD_NODE_FARM_SLOTS": "simulated=2", "CALLBOARD_FARM_STATE_SECONDS": "0.1"}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_board(tmp_path_factory.mktemp("farm"), env=SLOTS) as up:
        eventually(lambda: len(as_json(up, "farm", "ls")["slots"]) == 2, "two slots")
        yield up


@dataclass
class Done:
    """What a command has said."""

    returncode: int
    stdout: str
    stderr: str


def run(up: Up, *words: str, check: int | None = 0, stdin: str = "") -> Done:
    """Run a command on the board, in this process: to start another one takes longer than most commands."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["callboard", *words, "--state", str(up.state)])
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        patch.setattr(os, "environ", {**up.env})
        code = ended(main)
    done = Done(code, out.getvalue(), err.getvalue())
    assert check is None or code == check, f"{words}: {done.stdout}{done.stderr}\n{up.logs()}"
    return done


def ended(program: Callable[[], None]) -> int:
    try:
        program()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def as_json(up: Up, *words: str, **more: Any) -> Any:
    return json.loads(run(up, *words, "--json", **more).stdout)


def submit(up: Up, *words: str, frames: str = "1-6", **args: Any) -> str:
    """Submit a job for the simulated engine; return its id."""
    told = json.dumps({"seconds": 0.02, **args})
    sets = ("--set", "engine=simulated", "--set", f"args={told}", "--set", "chunk=2")
    return str(as_json(up, "job", "submit", "--frames", frames, *sets, *words)["job"])


def row(up: Up, job: str) -> dict[str, Any]:
    found = as_json(up, "job", "ls")["items"]
    return next(one for one in found if one["job"] == job)


def test_a_job_is_submitted_watched_and_downloaded(board, tmp_path):
    scene = tmp_path / "scene.blend"
    scene.write_bytes(b"not really a scene " * 100_000)
    texture = tmp_path / "wall.png"
    texture.write_bytes(b"not really a picture")
    job = submit(board, str(scene), "--with", str(texture), "--project", "Dune", "--shot", "010", image=True)
    watched = run(board, "job", "watch", job).stdout.splitlines()
    assert watched[-1].endswith(f"job {job} scene.blend: done, 6/6 frames")
    shown = run(board, "job", "frames", job)
    assert shown.stdout.splitlines()[1].split("\t")[:3] == ["done", "6", "1-6"]
    folder = tmp_path / "out"
    files = as_json(board, "job", "download", job, "--to", str(folder))
    assert sorted(Path(file).name for file in files) == [f"frame-000{number}.png" for number in range(1, 7)]
    assert all(Path(file).read_bytes().startswith(b"\x89PNG") for file in files)
    (folder / "frame-0003.png").write_bytes(b"spoilt")
    assert run(board, "job", "download", job, "--to", str(folder)).stdout == f"6 files in {folder}\n"
    assert (folder / "frame-0003.png").read_bytes().startswith(b"\x89PNG")
    assert row(board, job)["project"] == "Dune"
    attempts = as_json(board, "job", "log", job, "--frame", "2")
    assert attempts[0]["frames"] in {"1-2", "2"}


def test_why_says_what_is_missing_and_the_job_starts_when_that_is_gone(board):
    job = submit(board, "--tag", "gpu")
    (told,) = run(board, "job", "why", job).stdout.splitlines()
    assert told == "render: here/simulated-1, here/simulated-2 have not all the tags it asks for: gpu"
    assert as_json(board, "job", "why", job)["items"][0]["reasons"][0]["code"] == "tags"
    run(board, "job", "change", job, "--no-tags", "--note", "any will do")
    run(board, "job", "watch", job)


def test_jobs_are_steered_by_id_and_by_what_they_have_in_common(board):
    held = [submit(board, "--hold", "--owner", "bob", "--name", f"b{number}") for number in range(2)]
    assert run(board, "job", "priority", "90", "--owner", "bob", "--yes").stdout == "2 jobs changed\n"
    asked = run(board, "job", "cancel", "--owner", "bob", check=1, stdin="n\n")
    assert asked.stderr.startswith("Cancel 2 jobs (")
    assert {row(board, job)["state"] for job in held} == {"held"}
    assert {row(board, job)["priority"] for job in held} == {90}
    assert as_json(board, "job", "resume", held[0], "--held") == {"count": 1}
    run(board, "job", "watch", held[0])
    run(board, "job", "requeue", held[0], "--frames", "2-3", "--yes")
    run(board, "job", "watch", held[0])
    assert run(board, "job", "cancel", held[1], "--yes").stdout == "1 job cancelled\n"
    over = run(board, "job", "watch", held[1], check=1)
    assert "cancelled" in over.stdout
    refused = run(board, "job", "pause", held[1], check=1)
    assert refused.stderr == f"callboard: job {held[1]} is cancelled; it cannot be asked to pause\n"
    assert as_json(board, "job", "delete", "--owner", "bob", "--remove-files", "--yes") == {"count": 2}
    assert as_json(board, "job", "ls", "--owner", "bob")["items"] == []


def test_a_running_job_is_paused_goes_on_and_its_watcher_may_leave(board):
    job = submit(board, frames="1-400", seconds=0.2)
    eventually(lambda: row(board, job)["running"], "it runs")
    run(board, "job", "pause", job)
    assert row(board, job)["state"] == "paused"
    assert run(board, "job", "why", job).stdout == "render: the job is paused\n"
    run(board, "job", "resume", job)
    watching = subprocess.Popen(
        [*CALLBOARD, "job", "watch", job, "--state", str(board.state)],
        env=board.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert f"job {job} " in watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, told = watching.communicate(timeout=20)
    assert (watching.returncode, told) == (1, "still running; `callboard job watch` shows it again\n")
    run(board, "job", "cancel", job, "--yes")


def test_slots_are_disabled_and_enabled_alone_and_by_node(board):
    run(board, "farm", "disable", "here/simulated-1", "--note", "too loud")
    eventually(lambda: slots(board)["simulated-1"] == "disabled", "it is disabled")
    assert run(board, "farm", "drain", "here").stdout == "2 slots changed\n"
    job = submit(board)
    assert "drain" in run(board, "job", "why", job).stdout
    assert as_json(board, "farm", "enable", "here") == {"count": 2}
    run(board, "job", "watch", job)
    shown = run(board, "farm", "ls")
    assert shown.stdout.splitlines()[0].split("\t")[:3] == ["slot", "engine", "state"]
    assert shown.stderr.startswith("jobs: ")
    assert "there is no slot here/x" in run(board, "farm", "drain", "here/x", check=1).stderr


def slots(up: Up) -> dict[str, str]:
    return {one["slot"]: one["state"] for one in as_json(up, "farm", "ls")["slots"]}


def test_projects_hold_sequences_and_shots(board):
    run(board, "project", "create", "Arrakis", "--owner", "ann")
    run(board, "project", "create", "Arrakis/sq10")
    assert run(board, "project", "create", "Arrakis/sq10/010", "--note", "sand").stdout.startswith(
        "shot 010 has the id "
    )
    run(board, "project", "change", "Arrakis/sq10", "--name", "sq20")
    listed = [line.split("\t")[1:3] for line in run(board, "project", "ls").stdout.splitlines()]
    assert ["shot", "Arrakis/sq20/010"] in listed
    assert "still holds" in run(board, "project", "delete", "Arrakis", "--yes", check=1).stderr
    for place in ("Arrakis/sq20/010", "Arrakis/sq20", "Arrakis"):
        run(board, "project", "delete", place, "--yes")
    assert (
        "there is no 'Arrakis'" in run(board, "project", "change", "Arrakis", "--note", "x", check=1).stderr
    )


WRONG = [
    (("job", "submit", "nowhere.blend"), 1, "there is no file nowhere.blend"),
    (("job", "submit"), 2, "inputs: empty; give the file to render"),
    (("job", "submit", "--type", "rendr"), 1, "job type 'rendr' is unknown; there are command, render"),
    (("job", "submit", "--set", "frmaes=1"), 2, "'frmaes' is no setting of this job type; it has engine"),
    (("job", "submit", "--frames", "9-1", "--set", "engine=simulated"), 2, "settings.frames: '9-1' runs backwards"),
    (("job", "submit", "--set", "chunk=few"), 2, "chunk"),
    (("job", "why", "x"), 2, "'x' is no job; jobs have numbers"),
    (("job", "why", "999"), 1, "there is no job 999"),
    (("job", "cancel"), 2, "say which jobs"),
    (("job", "change", "1"), 2, "say what to change"),
    (("job", "requeue", "1", "--all", "--frames", "1"), 2, "--frames goes without --all"),
    (("farm", "drain", "Here"), 2, "node"),
]  # fmt: skip


def test_what_is_wrong_is_one_line_that_says_what_to_do(board):
    for words, code, says in WRONG:
        done = run(board, *words, check=code)
        assert done.stderr.startswith("callboard: "), done.stderr
        assert says in done.stderr
        assert done.stderr.count("\n") == 1


def test_job_types_are_listed_with_what_is_wrong_with_broken_ones(board):
    folder = board.state / "jobtypes"
    folder.mkdir(exist_ok=True)
    (folder / "broken.py").write_text("x = 1\ny = \n")
    try:
        shown = run(board, "job", "types")
        assert "render-video\t" in shown.stdout
        assert shown.stderr.startswith("broken cannot be used: ")
        assert "broken.py line 2: SyntaxError" in shown.stderr
    finally:
        (folder / "broken.py").unlink()


def test_the_farm_is_read_and_changed_as_json_over_mqtt_and_http(board):
    job = submit(board, "--hold", "--name", "by json")
    asked = {"item": "job", "action": "update", "filters": {"name": "by json"}, "values": {"priority": 77}}
    with board.link("operator") as link:
        address = Address(link.site, BOARD, Leaf.COMMAND, Kind.WORKER, "api")
        told = link.call(address, asked, timeout=10).result()
        assert told == {"item": "job", "action": "update", "count": 1, "items": []}
        with pytest.raises(BadRequest, match="item: 'jbo' is unknown; there are client"):
            link.call(address, asked | {"item": "jbo"}, timeout=10).result()
    api = BoardApi(board.runtime.http.url, Credential("operator", board.password("operator")))
    (found,) = api.post(path("farm", "api"), {"item": "job", "action": "read", "filters": {"id": job}})[
        "items"
    ]
    assert (found["priority"], found["status"]) == (77, "held")
    viewer = BoardApi(board.runtime.http.url, Credential("viewer", board.password("viewer")))
    assert viewer.post(path("farm", "api"), {"item": "client", "action": "read"})["items"][0]["id"] == "here"
    with pytest.raises(Forbidden, match="takes the role operator"):
        viewer.post(path("farm", "api"), {"item": "job", "action": "delete", "filters": {}})
    assert (
        api.post(path("farm", "api"), {"item": "job", "action": "delete", "filters": {"id": job}})["count"]
        == 1
    )


def test_a_job_type_of_the_guide_is_one(board):
    guide = (Path(__file__).parents[2] / "docs" / "howto" / "jobs.md").read_text()
    code = guide.partition("```python\n")[2].partition("```")[0]
    file = board.state / "jobtypes" / "two_cameras.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(code)
    found = {one["name"]: one for one in as_json(board, "job", "types")["items"]}
    assert found["two-cameras"]["label"] == "Render twice, from two cameras."
    made = as_json(board, "job", "submit", "--type", "two_cameras", "--set", "cameras=A", "--hold")
    assert [step["name"] for step in made["steps"]] == ["a"]
    run(board, "job", "delete", made["job"], "--yes")
    file.unlink()
