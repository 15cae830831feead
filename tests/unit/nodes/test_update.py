"""Updates on the node: the table of their states, what is refused, and what root does with what it finds."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from callboard_core.errors import BadPayload, BadRequest, Conflict, Forbidden
from callboard_core.messages import parse
from callboard_core.trust.signing import new_signing_key, public_key_of
from callboard_core.updates import Content, Manifest, Signed
from callboard_nodes.install.layout import Layout
from callboard_nodes.update import rollback
from callboard_nodes.update.apply import Applying
from callboard_nodes.update.checking import Here, check, target_of, wheels_for
from callboard_nodes.update.rollback import ENDS, STEPS, Book, Entry, Journal, Placed, look_after, place
from support.power_cuts import KEY, NEW_CONFIG, OLD_CONFIG, Machine, fill

HERE = Here(site="callboard", node="pi", version="0.2.0", numbers={"release": 5}, folders=("/srv/files",))
WHEEL = Content(name="callboard-0.3.0-py3-none-any.whl", sha256="0" * 64, size=1)


def manifest(**changes):
    chosen = {
        "site": "callboard",
        "number": 6,
        "kind": "release",
        "created": 1.0,
        "version": "0.3.0",
        "files": [WHEEL],
    }
    return Manifest(**{**chosen, **changes})


# -- the table -----------------------------------------------------------------------------------------------


def test_every_state_of_an_update_is_reached_and_every_one_leads_to_an_end():
    states = {state for state, _ in STEPS} | set(STEPS.values())
    events = {event for _, event in STEPS}
    reached, waiting = {"copied"}, ["copied"]
    while waiting:
        state = waiting.pop()
        for event in events:
            new = STEPS.get((state, event))
            if new is not None and new not in reached:
                reached.add(new)
                waiting.append(new)
    assert reached == states
    assert {state for state in states if not any(one == state for one, _ in STEPS)} == ENDS


@pytest.mark.parametrize(
    ("state", "event"), list(itertools.product(sorted(ENDS), sorted({event for _, event in STEPS})))
)
def test_nothing_happens_to_an_update_that_has_ended(state, event):
    with pytest.raises(ValueError, match="cannot be"):
        Journal(id="x", number=1, kind="release", state=state).after(event)


def test_what_a_newer_version_wrote_besides_does_not_harm():
    written = {
        "id": "x",
        "number": 1,
        "kind": "files",
        "unheard-of": 1,
        "placed": {"files": [{"path": "/a", "new": "n"}]},
    }
    assert Journal.of(written).placed.files == (Entry("/a", "n"),)


def test_the_rollback_knows_the_places_of_the_layout(tmp_path):
    book, layout = Book(tmp_path), Layout(tmp_path)
    book.write(Journal(id="x", number=1, kind="release", state="failed"))
    book.trust("k")
    assert layout.journal.exists()
    assert layout.history.exists()
    assert layout.pins.exists()
    assert book.health == layout.health


def test_the_rollback_runs_alone_with_nothing_but_the_standard_library(tmp_path):
    copy = tmp_path / "rollback.py"
    copy.write_bytes(Path(rollback.__file__).read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", "-S", copy, "--root", tmp_path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- what a node takes ---------------------------------------------------------------------------------------


def test_a_newer_release_for_this_node_is_taken():
    check(manifest(nodes=["pi"]), HERE)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"site": "other"}, Forbidden, "for site other"),
        ({"nodes": ["elsewhere"]}, Forbidden, "for other nodes"),
        ({"number": 5}, Conflict, "not newer than 5"),
        ({"version": "0.1.9"}, Conflict, "downgrades are refused"),
        ({"oldest": "0.2.5"}, BadRequest, "update to that one first"),
        ({"python": ">=4"}, BadRequest, "needs Python >=4"),
        (
            {"files": [WHEEL.model_copy(update={"name": "callboard-0.3.0-cp27-none-any.whl"})]},
            BadRequest,
            "fits this machine",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, error, says):
    with pytest.raises(error, match=says):
        check(manifest(**changes), HERE)


def test_of_each_distribution_the_wheel_that_fits_best_is_taken():
    names = [
        "a-1-py3-none-any.whl",
        f"a-1-cp3{sys.version_info.minor}-none-any.whl",
        "b-1-py3-none-any.whl",
        "no.txt",
    ]
    found = wheels_for([WHEEL.model_copy(update={"name": name}) for name in names])
    assert [one.name for one in found] == [names[1], names[2]]


@pytest.mark.parametrize("path", ["/etc/passwd", "/srv/files", "/srv/filesystem/x", "/srv/other/../files/x"])
def test_files_only_go_into_the_folders_that_the_node_names(path):
    file = WHEEL.model_copy(update={"path": path})
    with pytest.raises(Forbidden, match="not in a folder where this node takes files"):
        target_of(file, HERE.folders)


def test_a_file_without_a_place_goes_into_the_first_folder():
    assert target_of(WHEEL, HERE.folders) == f"/srv/files/{WHEEL.name}"
    with pytest.raises(Forbidden, match="takes no files"):
        target_of(WHEEL, ())


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "a\0b", "x" * 201])
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(BadPayload):
        parse(Content, json.dumps({"name": name, "sha256": "0" * 64, "size": 1}))


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/a//b", "/a\0"])
def test_places_that_lead_elsewhere_are_refused(path):
    with pytest.raises(BadPayload):
        parse(Content, json.dumps({"name": "x", "sha256": "0" * 64, "size": 1, "path": path}))


def test_what_is_too_large_is_refused():
    with pytest.raises(BadPayload):
        parse(Content, json.dumps({"name": "x", "sha256": "0" * 64, "size": 2**40}))
    part = {"sha256": "0" * 64, "size": 250 * 2**20}
    files = [{"name": f"f{number}", **part} for number in range(5)]
    text = json.dumps({"site": "s", "number": 1, "kind": "files", "created": 0, "files": files})
    with pytest.raises(BadPayload, match="together over"):
        parse(Manifest, text)


# -- what root does ------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path):
    found = Machine(tmp_path / "root")
    found.prepare()
    return found


def refused(machine, says):
    """Boot, and see that nothing was changed, and why."""
    machine.boot()
    journal = machine.book.read()
    assert (journal.state, machine.running()) == ("failed", "0.1.0")
    assert machine.layout.config.read_text() == OLD_CONFIG
    assert says in journal.reason
    assert [one.reason for one in machine.book.history()][-1] == journal.reason
    assert not machine.layout.request.exists()


def test_a_changed_manifest_is_refused(machine):
    signed = machine.ask("release", "0.2.0", b"good")
    machine.put(
        Signed(**{**signed.model_dump(), "manifest": signed.manifest.replace('"number":1', '"number":2')})
    )
    refused(machine, "signature is not the board's")


@pytest.mark.parametrize("kind", ["release", "config", "files"])
def test_who_has_taken_over_the_nodes_process_becomes_root_with_no_key_of_their_own(machine, kind):
    own = new_signing_key()
    content = NEW_CONFIG.encode() if kind == "config" else b"good"
    signed = machine.ask(kind, "0.2.0" if kind == "release" else "", content, key=own)
    claim = {"signed": signed.model_dump(), "key": public_key_of(own), "update_key": public_key_of(own)}
    machine.layout.request.write_text(json.dumps(claim))
    refused(machine, "signature is not the board's")
    assert machine.book.pins() == {"key": public_key_of(KEY), "numbers": {}}


@pytest.mark.parametrize("key", [KEY, new_signing_key()], ids=["the board's", "another's"])
def test_where_root_knows_no_board_nobody_has_it_trust_one(machine, key):
    machine.layout.pins.unlink()
    signed = machine.ask("release", "0.2.0", b"good", key=key)
    machine.layout.request.write_text(json.dumps({"signed": signed.model_dump(), "key": public_key_of(key)}))
    refused(machine, "callboard node --install --join CODE")
    assert not machine.layout.pins.exists()


def test_another_boards_update_is_refused_and_the_own_ones_go_on(machine):
    machine.ask("release", "0.3.0", b"good", key=new_signing_key(), number=2)
    refused(machine, "signature is not the board's")
    machine.ask("release", "0.2.0", b"good")
    machine.boot()
    assert machine.running() == "0.2.0"


def test_who_installs_again_for_the_same_board_keeps_what_is_too_old_and_for_another_counts_anew(tmp_path):
    book = Book(tmp_path)
    book.trust("one")
    book.pin({"release": 5})
    book.trust("one")
    assert book.pins() == {"key": "one", "numbers": {"release": 5}}
    book.trust("two")
    assert book.pins() == {"key": "two", "numbers": {}}


def test_an_old_update_is_not_taken_again(machine):
    signed = machine.ask("release", "0.2.0", b"good")
    content = next(one for one in machine.layout.inbox.iterdir() if len(one.name) == 64)
    data = content.read_bytes()
    machine.boot()
    content.write_bytes(data)
    machine.put(signed)
    machine.boot()
    assert "not newer than 1" in machine.book.read().reason


def test_content_that_is_not_what_was_signed_is_refused(machine):
    machine.ask("release", "0.2.0", b"good")
    content = next(one for one in machine.layout.inbox.iterdir() if len(one.name) == 64)
    content.write_bytes(b"evil")
    refused(machine, "is not what was signed")


def test_a_link_in_the_place_of_content_is_not_followed(machine, tmp_path):
    machine.ask("config", content=NEW_CONFIG.encode())
    content = next(one for one in machine.layout.inbox.iterdir() if len(one.name) == 64)
    content.rename(tmp_path / "elsewhere")
    content.symlink_to(tmp_path / "elsewhere")
    refused(machine, "was not fetched")


def test_a_pipe_in_the_place_of_the_mark_holds_nobody_up(machine):
    machine.ask("release", "0.2.0", b"good")
    machine.node = lambda: os.path.lexists(machine.layout.health) or os.mkfifo(machine.layout.health)
    machine.boot()
    assert machine.book.read().state == "rolled-back"


def test_a_request_that_is_no_request_goes_away(machine):
    machine.layout.request.write_text("{}")
    machine.boot()
    assert machine.book.read() is None
    assert not machine.layout.request.exists()


def test_a_configuration_that_is_wrong_changes_nothing(machine):
    machine.ask("config", content=b"[node]\nkeepalive = 'soon'\n")
    refused(machine, "keepalive")


def test_a_configuration_cannot_make_a_node_another_one(machine):
    machine.ask("config", content=b"site = 'elsewhere'\n")
    refused(machine, "another node")


def test_a_file_goes_where_it_is_pushed_and_the_old_one_comes_back_if_the_node_gets_sick(machine):
    target = machine.layout.state / "files" / "scene.txt"
    machine.ask("files", content=b"one", path=str(target), restart=False)
    machine.boot()
    assert (machine.book.read().state, target.read_bytes()) == ("healthy", b"one")
    machine.ask("files", content=b"two", path=str(target), number=2)
    machine.node = lambda: None
    machine.boot()
    assert (machine.book.read().state, target.read_bytes()) == ("rolled-back", b"one")


def test_a_pushed_file_that_was_not_there_is_removed_again(tmp_path):
    book = Book(tmp_path)
    book.work.mkdir(parents=True)
    (book.work / "new-0").write_bytes(b"x")
    placed = Placed(files=(Entry(str(tmp_path / "there" / "file"), "new-0"),))
    place(book, placed, new=True)
    assert (tmp_path / "there" / "file").read_bytes() == b"x"
    place(book, placed, new=False)
    place(book, placed, new=False)
    assert not (tmp_path / "there" / "file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has others' rights")
def test_a_link_of_the_nodes_user_does_not_lead_root_astray(tmp_path):
    book = Book(tmp_path)
    book.work.mkdir(parents=True)
    (book.work / "new-0").write_bytes(b"x")
    tmp_path.chmod(0o755)
    secret = tmp_path / "root-only"
    secret.mkdir(mode=0o700)
    (tmp_path / "files").symlink_to(secret)
    nobody = (65534, 65534)
    with pytest.raises(PermissionError):
        place(book, Placed(files=(Entry(str(tmp_path / "files" / "f"), "new-0", owner=nobody),)), new=True)
    assert (os.geteuid(), os.getegid(), list(secret.iterdir())) == (0, 0, [])


def test_a_machine_that_starts_again_and_again_is_brought_back(machine):
    machine.ask("release", "0.2.0+sick", b"sick")
    machine.apply()
    for boot in range(2, 6):
        journal = machine.book.read()
        if journal.state != "trial":
            break
        with pytest.raises(KeyboardInterrupt):
            look_after(
                machine.book, run=machine.systemctl, sleep=_cut, clock=lambda: 0.0, boot=lambda n=boot: str(n)
            )
            raise KeyboardInterrupt
    assert machine.book.read().state == "rolled-back"
    assert "started" in machine.book.read().reason


def _cut(_seconds):
    raise KeyboardInterrupt


def test_an_update_program_that_is_interrupted_again_and_again_is_given_up(machine):
    machine.ask("release", "0.2.0", b"good")
    journal = Journal(id="one", number=1, kind="release")
    machine.book.write(journal)
    for _ in range(10):
        look_after(machine.book, run=lambda *_: True)
    assert machine.book.read().state == "failed"
    assert "interrupted 5 times" in machine.book.read().reason


def test_a_disk_that_is_full_when_the_new_is_put_in_place_leaves_the_old(machine, monkeypatch):
    machine.ask("config", content=NEW_CONFIG.encode())
    real = rollback.to_file

    def full(path, data, mode=0o644, owner=None):
        if path == machine.layout.config and data == NEW_CONFIG.encode():
            raise OSError(28, "No space left on device")
        real(path, data, mode, owner)

    monkeypatch.setattr(rollback, "to_file", full)
    machine.boot()
    assert machine.book.read().state == "rolled-back"
    assert "No space left" in machine.book.read().reason
    assert machine.layout.config.read_text() == OLD_CONFIG


def test_a_line_that_a_power_cut_has_cut_does_not_spoil_the_history(tmp_path):
    book = Book(tmp_path)
    book.folder.mkdir(parents=True)
    Layout(tmp_path).history.write_bytes(b'{"id": "cut')
    book.write(Journal(id="x", number=1, kind="release", state="healthy"))
    assert [one.id for one in book.history()] == ["x"]


def test_an_update_notes_its_number_and_leaves_the_key_that_root_trusts(machine):
    machine.ask("release", "0.2.0", b"good")
    machine.boot()
    assert machine.book.pins() == {"key": public_key_of(KEY), "numbers": {"release": 1}}
    assert KEY not in machine.layout.pins.read_text()


def test_a_wheel_can_be_pushed_as_any_other_file(machine):
    name = "mine-1.0-py3-none-any.whl"
    target = machine.layout.state / "files" / name
    machine.ask("files", content=b"a wheel", name=name, path=str(target), restart=False)
    machine.boot()
    assert machine.book.read().state == "healthy", machine.book.read().reason
    assert target.read_bytes() == b"a wheel"


@pytest.mark.parametrize(("order", "verb"), [("reboot", "reboot"), ("shutdown", "poweroff")])
def test_root_reboots_for_the_node_where_its_own_settings_allow_it(machine, order, verb):
    given = []
    machine.systemctl = lambda *words: given.append(words) or True
    machine.layout.power.write_text(order)
    machine.apply()
    assert given == []
    machine.layout.config.write_text(f'[node]\nallow = ["{order}"]\n')
    machine.layout.power.write_text(order)
    machine.apply()
    assert given == [(verb,)]
    assert not machine.layout.power.exists()


def test_nothing_else_is_an_order(machine, tmp_path):
    given = []
    machine.systemctl = lambda *words: given.append(words) or True
    machine.layout.config.write_text('[node]\nallow = ["restart"]\n')
    machine.layout.power.write_text("restart")
    machine.apply()
    (tmp_path / "reboot").write_text("reboot")
    machine.layout.config.write_text('[node]\nallow = ["reboot"]\n')
    machine.layout.power.symlink_to(tmp_path / "reboot")
    machine.apply()
    assert given == []
    assert (tmp_path / "reboot").exists()
    assert not os.path.lexists(machine.layout.power)


def test_root_asks_its_own_settings_whether_updates_are_allowed(machine):
    machine.layout.config.write_text('[node]\nallow = ["restart", "push"]\n')
    machine.ask("release", "0.2.0", b"good")
    machine.apply()
    assert machine.book.read().reason == "this node does not allow it: update is not in its node.allow"
    assert machine.running() == "0.1.0"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (["push"], ["push", "reboot", "update"], "would have this node allow reboot, update"),
        (["push", "log"], ["push"], ""),
        (["push", "update"], ["push", "update", "log"], ""),
    ],
)
def test_who_may_push_but_not_update_cannot_push_that_he_may(machine, old, new, says):
    machine.node = lambda: None
    machine.layout.config.write_text(f"[node]\nallow = {json.dumps(old)}\n")
    machine.ask("config", content=f"[node]\nallow = {json.dumps(new)}\n".encode())
    machine.apply()
    journal = machine.book.read()
    assert (journal.state, says in journal.reason) == ("failed" if says else "trial", True)
    assert json.dumps(old if says else new) in machine.layout.config.read_text()


@pytest.mark.parametrize("name", ["request.json", "power"])
def test_a_folder_in_the_place_of_a_request_does_not_stay(machine, name):
    (machine.layout.inbox / name / "inside").mkdir(parents=True)
    machine.apply()
    assert not (machine.layout.inbox / name).exists()


@pytest.fixture
def led_astray(machine, tmp_path):
    """A machine whose node's user has put a link to a folder of root in the place of its inbox."""
    tmp_path.chmod(0o755)
    os.chown(machine.layout.state, 65534, 65534)
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    machine.layout.inbox.rename(tmp_path / "inbox")
    machine.layout.inbox.symlink_to(secret)
    return machine


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be led astray")
@pytest.mark.parametrize("name", ["request.json", "power"])
def test_a_link_in_the_place_of_the_inbox_does_not_lead_root_to_what_only_root_reads(
    led_astray, tmp_path, name
):
    (tmp_path / "secret" / name).write_text("of root")
    led_astray.apply()
    assert (tmp_path / "secret" / name).read_text() == "of root"
    assert led_astray.book.read() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be led astray")
def test_a_link_in_the_place_of_the_inbox_makes_root_remove_no_mark_of_others(led_astray, tmp_path):
    mark = tmp_path / "secret" / "healthy.json"
    mark.write_text('{"id": "x"}')
    led_astray.node = lambda: None
    led_astray.book.write(Journal(id="x", number=1, kind="config", state="switching", within=0))
    look_after(led_astray.book, run=led_astray.systemctl, clock=lambda: 1.0, boot=lambda: "1")
    assert mark.exists()
    assert led_astray.book.read().state == "rolled-back"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_nodes_group_can_still_read_its_settings_after_a_push(machine):
    os.chown(machine.layout.config, 0, 65534)
    machine.layout.config.chmod(0o640)
    machine.ask("config", content=NEW_CONFIG.encode())
    machine.boot()
    found = machine.layout.config.stat()
    assert machine.layout.config.read_text() == NEW_CONFIG
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, 65534, 0o640)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read what others cannot")
def test_what_the_nodes_user_cannot_read_is_not_kept_for_it(machine, tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "scene.txt").write_text("of root")
    machine.layout.state.chmod(0o755)
    (machine.layout.state / "files").symlink_to(secret)
    machine.ask("files", content=b"x", path=str(machine.layout.state / "files" / "scene.txt"))
    applying = Applying(machine.layout, run=machine.systemctl, user="nobody", fill=fill)
    applying.run()
    assert machine.book.read().state in {"failed", "switching", "undoing", "rolled-back"}
    assert not list(machine.book.work.glob("old-*"))
    assert (secret / "scene.txt").read_text() == "of root"
