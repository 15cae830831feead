"""The farm's verbs explain themselves, and show jobs, frames and slots as people read them."""

import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.main import get_command

from callboard_console.cli.board_http import BoardApi, _error, path
from callboard_console.cli.farm import summary
from callboard_console.cli.farm_choice import check_id, choice
from callboard_console.cli.farm_text import bar, frame_lines, job_line, job_row, left, slot_row, why_lines
from callboard_console.cli.job_look import file_names
from callboard_console.cli.job_submit import _send, _shared, read_settings
from callboard_console.cli.job_watch import _Bars
from callboard_console.cli.main import app
from callboard_console.cli.transfers import Transfers
from callboard_core.errors import BadRequest, Unavailable
from callboard_core.link import Credential

GROUPS = ("job", "farm", "project", "user", "role", "token")
COMMANDS = [(group, verb) for group in GROUPS for verb in get_command(app).commands[group].commands]
COUNTS = {"waiting": 1, "assigned": 0, "rendering": 1, "done": 2, "failed": 0, "cancelled": 0}
JOB = {
    "job": "7", "name": "cube", "state": "active", "frames": COUNTS, "progress": 0.5, "running": 1, "eta": 90.0,
    "priority": 50, "owner": "ann", "reason": None,
}  # fmt: skip


@pytest.mark.parametrize(("group", "verb"), COMMANDS)
def test_every_verb_of_a_group_has_help_with_an_example_that_parses(group, verb):
    command = get_command(app).commands[group].commands[verb]
    words = shlex.split(" ".join(command.help.partition("Example: callboard ")[2].split()))
    assert words[:2] == [group, verb]
    command.make_context(verb, words[2:], resilient_parsing=False)


@pytest.mark.parametrize(("group", "verb"), COMMANDS)
def test_every_option_says_what_it_is_for_and_each_verb_reaches_any_board(group, verb):
    options = get_command(app).commands[group].commands[verb].params
    assert all(getattr(option, "help", None) for option in options)
    assert {"state", "config", "site", "board", "username", "password_file"} <= {one.name for one in options}


@pytest.mark.parametrize(
    ("share", "drawn"),
    [(0, "····"), (1, "████"), (0.5, "██··"), (0.125, "▌···"), (2, "████"), (-1, "····")],
)
def test_a_bar_fills_by_eighths(share, drawn):
    assert bar(share, 4) == drawn


def test_a_job_is_told_in_a_line_and_in_a_row():
    assert job_line(JOB) == "job 7 cube: active, 2/4 frames, 2 min left"
    failed = JOB | {"frames": COUNTS | {"failed": 3}, "state": "failed", "reason": "no camera"}
    assert job_line(failed) == "job 7 cube: failed, 2/7 frames, 3 failed, no camera"
    assert job_row(JOB)["progress"] == "██████······"
    assert left(None) == "-"


def test_frames_are_told_by_state_with_their_mean_time():
    view = {
        "frames": [1, 2, 3, 4],
        "states": ["done", "done", "waiting", "done"],
        "seconds": [1.0, None, None, 2.0],
    }
    assert frame_lines(view) == [
        {"state": "done", "count": 3, "frames": "1-2,4", "seconds each": "1.50"},
        {"state": "waiting", "count": 1, "frames": "3", "seconds each": "-"},
    ]


def test_reasons_are_told_by_step():
    assert why_lines([{"step": "video", "reasons": [{"text": "waits for render"}]}]) == [
        "video: waits for render"
    ]


def test_a_slot_shows_its_work_as_far_as_it_has_any_and_is_there():
    report = {"job": "7", "frame": 3, "progress": 0.5, "eta": 5}
    slot = {
        "node": "n", "slot": "s", "card": {"engine": "blender", "version": "4.2"}, "state": "rendering",
        "report": report, "live": True, "closed": "", "note": "", "tags": ["gpu"],
    }  # fmt: skip
    assert (slot_row(slot)["job"], slot_row(slot)["engine"]) == ("7", "blender 4.2")
    encodes = slot_row(slot | {"report": report | {"frame": None}})
    assert (encodes["job"], encodes["frame"]) == ("7", "")
    gone = slot_row(slot | {"live": False, "closed": "lost"})
    assert (gone["job"], gone["progress"], gone["takes no work"]) == ("", "", "lost")


def test_the_farm_is_told_in_a_line():
    found = {
        "jobs": {"active": 1, "done": 2, "failed": 0},
        "frames": COUNTS,
        "frames_per_minute": 12.34,
        "eta": 90,
    }
    assert summary(found) == "jobs: 1 active, 2 done; 2 frames to do at 12.3 a minute, 2 min left"


def test_results_of_the_same_name_lie_in_folders_of_their_steps():
    made = [
        {"step": "render", "name": "a.png", "frame": 1},
        {"step": "again", "name": "a.png", "frame": 1},
        {"step": "video", "name": "a.mp4", "frame": None},
        {"step": "bake", "name": None, "frame": None},
    ]
    assert file_names(made) == ["render/a.png", "again/a.png", "a.mp4", "bake-0"]


def test_jobs_are_chosen_by_id_or_by_what_they_have_in_common():
    assert choice(["1", "2"]) == {"ids": ["1", "2"]}
    assert choice(None, states=["done"], owner="ann") == {"state": ["done"], "owner": "ann"}
    with pytest.raises(BadRequest, match="say which jobs"):
        choice([])
    with pytest.raises(BadRequest, match="'1/2' is no job"):
        check_id("1/2")


def test_settings_are_read_as_their_job_type_wants_them():
    schema = {
        "properties": {
            "frames": {"type": "string"},
            "samples": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "hold": {"type": "boolean"},
        }
    }
    assert read_settings(schema, ["samples=4", "hold=yes"], "5") == {
        "samples": 4,
        "hold": True,
        "frames": "5",
    }
    with pytest.raises(
        BadRequest, match="'smples' is no setting of this job type; it has frames, samples, hold"
    ):
        read_settings(schema, ["smples=4"], None)


def test_bars_are_drawn_for_who_watches_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with _Bars() as bars:
        bars.show(JOB)
        bars.show(JOB | {"frames": COUNTS | {"done": 3, "failed": 1}, "state": "paused", "reason": "paused"})
    shown = capsys.readouterr().out
    assert "7 cube" in shown
    assert "3/6" in shown
    assert "paused, 1 failed" in shown


def test_transfers_are_shown_in_bytes_or_counted_and_to_nobody_else(monkeypatch, capsys):
    with Transfers("sending") as quiet:
        quiet.of("a.blend")(1, 2)
        quiet.one_more()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Transfers("sending") as shown:
        shown.of("a.blend")(1, 2)
    with Transfers("fetching", total=2) as shown:
        shown.one_more()
    told = capsys.readouterr().err
    assert "sending a.blend" in told
    assert "fetching" in told


class Interrupted:
    """A store whose sender presses Ctrl-C."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def put_file(self, file, *, progress):
        raise KeyboardInterrupt


def test_an_interrupted_upload_says_that_it_can_go_on(tmp_path, capsys):
    store = Interrupted()
    file = tmp_path / "a.blend"
    file.touch()
    with pytest.raises(typer.Exit) as ended:
        _send(SimpleNamespace(artifacts=lambda: store), [file])
    assert ended.value.exit_code == 1
    assert store.closed
    assert capsys.readouterr().err == "interrupted; submit it again and the upload goes on where it was cut\n"


def test_files_in_shared_folders_are_named_by_path(tmp_path):
    shared = _shared([tmp_path / "a.blend", Path("{shows}/b.png")])
    assert shared == [
        {"name": "a.blend", "path": str(tmp_path / "a.blend")},
        {"name": "b.png", "path": "{shows}/b.png"},
    ]


def test_a_board_that_does_not_answer_or_answers_nonsense_is_told():
    api = BoardApi("http://127.0.0.1:9", Credential("viewer", "secret"))
    with pytest.raises(Unavailable, match=r"the board.s HTTP API at http:.* does not answer"):
        api.get(path("jobs"))
    assert "secret" not in repr(api)
    assert _error(502, b"<html>").message == "the board answered 502: <html>"
    assert _error(404, b'{"error": {"code": "not_found", "message": "no job"}}').code == "not_found"
    assert path("jobs", "a/b", 1) == "/api/v1/jobs/a%2Fb/1"
