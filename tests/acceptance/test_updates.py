"""A node is installed, joins a board, and is updated: to a version that works, and to some that do not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard_core.trust import JoinCode
from support.installed import BRIEF, CRASHES, LONG, RESTLESS, Place, invitation, machine
from support.up import eventually

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    with machine(tmp_path_factory.mktemp("updates")) as found:
        yield found


def test_a_node_is_updated_and_the_version_before_stays_for_the_case(place):
    done = place.update(place.release("0.2.0"))
    assert "greenhouse: healthy" in done.stdout
    place.runs("0.2.0")
    assert place.layout.current.readlink() == Path("b")
    assert place.layout.slot("a").is_dir()
    (last, *_) = place.history()
    assert (last["stage"], last["running"], last["by"]) == ("healthy", "0.2.0", "operator")


@pytest.mark.parametrize(
    ("version", "changes"), [("0.3.0", CRASHES), ("0.3.1", RESTLESS)], ids=["crashes", "never stays"]
)
def test_a_version_that_does_not_get_healthy_is_undone_by_the_node_itself(place, version, changes):
    before = place.version()
    slot = place.layout.current.readlink()
    done = place.update(place.release(version, changes), within=BRIEF, check=False)
    assert done.returncode == 1
    assert "rolled-back" in done.stdout
    place.runs(before)
    assert place.layout.current.readlink() == slot
    (last, *_) = place.history()
    assert (last["stage"], last["running"]) == ("rolled-back", before)
    assert "was not well within" in last["reason"]


def test_a_version_that_cannot_be_imported_is_never_switched_to(place):
    before, starts = place.version(), place.layout.current.readlink()
    broken = {
        "callboard_core/topics.py": ("from __future__ import annotations\n", "import nothing_of_this_name\n")
    }
    done = place.update(place.release("0.4.0", broken), check=False)
    assert done.returncode == 1
    (last, *_) = place.history()
    assert last["stage"] == "failed"
    assert "nothing_of_this_name" in last["reason"]
    assert (place.version(), place.layout.current.readlink()) == (before, starts)


def test_nothing_is_published_for_a_node_that_there_is_not(place, tmp_path):
    before = place.up.get("/api/v1/updates/manifests")
    (tmp_path / "curve.csv").write_text("1,2\n")
    for words in (["update", "nobody"], ["push", "nobody", str(tmp_path / "curve.csv")]):
        done = place.up.cli(*words, check=False)
        assert (done.returncode, "nobody" in done.stderr) == (1, True), done.stderr
    assert place.up.get("/api/v1/updates/manifests") == before


def test_an_older_version_is_refused(place):
    before = place.version()
    done = place.update(place.release("0.0.9"), check=False)
    assert done.returncode == 1
    assert "downgrades are refused" in done.stdout + done.stderr
    assert place.version() == before


def test_a_configuration_takes_the_place_of_the_old_one(place, tmp_path):
    text = place.layout.config.read_text()
    new = tmp_path / "new.toml"
    new.write_text(text + 'label = "The greenhouse"\n')
    done = place.send("push", "greenhouse", "--settings", str(new))
    assert "healthy" in done.stdout
    eventually(
        lambda: place.up.get("/api/v1/nodes/greenhouse")["label"] == "The greenhouse",
        "the new label is shown",
        LONG,
    )


def test_a_configuration_with_which_the_node_cannot_run_is_undone(place, tmp_path):
    text = place.layout.config.read_text()
    new = tmp_path / "new.toml"
    new.write_text(text + '\n[[sensor]]\ndriver = "nothing-like-this"\n')
    done = place.send("push", "greenhouse", "--settings", str(new), within=BRIEF, check=False)
    assert done.returncode == 1
    assert "rolled-back" in done.stdout
    eventually(lambda: place.version() is not None, "the node is back", LONG)
    assert place.layout.config.read_text() == text


def test_a_configuration_that_is_wrong_is_not_even_sent(place, tmp_path):
    new = tmp_path / "new.toml"
    new.write_text("[node]\nkeepalife = 3\n")
    done = place.up.cli("push", "greenhouse", "--settings", str(new), check=False)
    assert done.returncode != 0
    assert "keepalive" in done.stderr


def test_a_file_is_pushed_and_only_where_the_node_takes_files(place, tmp_path):
    file = tmp_path / "scene.txt"
    file.write_text("hello")
    place.send("push", "greenhouse", str(file))
    assert (place.layout.state / "files" / "scene.txt").read_text() == "hello"
    done = place.send("push", "greenhouse", str(file), "--to", "/etc", check=False)
    assert done.returncode == 1
    assert "not in a folder where this node takes files" in done.stdout + done.stderr
    assert not os.path.lexists("/etc/scene.txt")


def test_updates_are_taken_while_the_authority_is_replaced(place, tmp_path):
    before = json.loads(place.layout.pins.read_text())["key"]
    place.up.cli("trust", "rotate", "--yes")
    file = tmp_path / "rotated.txt"
    file.write_text("hello")
    place.send("push", "greenhouse", str(file))
    assert (place.layout.state / "files" / "rotated.txt").read_text() == "hello"
    after = JoinCode.parse(invitation(place.up))
    assert (after.update_key, json.loads(place.layout.pins.read_text())["key"]) == (before, before)


def test_operators_read_the_log_of_a_node_and_have_it_diagnosed(place):
    assert "is on the board" in place.up.cli("logs", "greenhouse", "-n", "500").stdout
    found = json.loads(place.up.cli("diagnose", "greenhouse", "--json", timeout=LONG, check=False).stdout)
    assert {"versions", "state folder"} & {check["what"] for check in found["checks"]}


def test_the_power_fails_while_a_new_version_is_on_trial(place):
    before = place.version()
    wheel = place.release("0.5.0", RESTLESS)
    place.up.cli("update", "greenhouse", "--wheel", str(wheel), "--within", str(BRIEF))
    journal = place.layout.journal
    eventually(lambda: json.loads(journal.read_text())["state"] == "trial", "it is on trial", LONG)
    place.machine.power_off()
    # As it is after a boot: what was measured since the last one does not count.
    journal.write_text(json.dumps({**json.loads(journal.read_text()), "boot": "the one before"}))
    place.machine = place.machine.boot_again()
    with place.machine:
        place.runs(before)
        found = json.loads(journal.read_text())
    assert (found["state"], found["boots"]) == ("rolled-back", 2)
