"""A person on another PC operates a board that is known by its authority: encrypted, with a login, and by nobody else."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from callboard_broker.access.authority import Authority
from callboard_core.trust import JoinCode
from support.netns import Lan, lan
from support.root import needs_root
from support.up import CALLBOARD, Up, clean_environment, eventually, free_udp_port, running_board

pytestmark = [needs_root, pytest.mark.timeout(300)]


@dataclass
class Desk:
    """Two hosts: the board's, and that of somebody who only has what they were given."""

    network: Lan
    up: Up
    folder: Path
    env: dict[str, str]

    def __call__(self, *words: str, user: str = "", state: str = "desk") -> subprocess.CompletedProcess[str]:
        """Run ``callboard`` at the desk."""
        command = ["ip", "netns", "exec", self.network.namespace("desk"), *CALLBOARD, *words]
        login = (
            {"CALLBOARD_USERNAME": user, "CALLBOARD_PASSWORD_FILE": str(self.folder / user)} if user else {}
        )
        env = {**self.env, **login, "CALLBOARD_STATE": str(self.folder / state)}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)

    def told(self, *words: str, user: str) -> str:
        done = self(*words, user=user)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("hosts")
    with lan() as network:
        network.add("board")
        network.add("desk")
        udp = free_udp_port()
        prefix = ("ip", "netns", "exec", network.namespace("board"))
        (folder / "board").mkdir()
        env = {"CALLBOARD_DISCOVERY_PORT": str(udp)}
        with running_board(folder / "board", "--lan", prefix=prefix, env=env, node=True) as up:
            made = Desk(network, up, folder, clean_environment(folder, udp))
            for user in ("admin", "operator", "viewer"):
                (folder / user).write_text(up.password(user))
            code = up.cli("join").stdout.strip()
            pinned = made("trust", "pin", code)
            assert pinned.returncode == 0, pinned.stderr
            assert not (Path(folder / "desk") / "credentials").exists()
            yield made


def test_status_says_how_the_board_over_there_is_without_a_login(desk: Desk) -> None:
    told = json.loads(desk("status", "--wait", "60", "--json").stdout)
    assert told["answers"] == {"mqtts": "ok", "https": "ok"}
    assert told["https"] == f"https://{desk.network.machines['board']}:8443"
    assert "ready: site callboard, mqtts://" in desk("status").stdout


def test_verbs_over_mqtt_and_https_work_with_a_login(desk: Desk) -> None:
    eventually(lambda: "board" in desk.told("ls", "nodes", user="viewer"), "the board in the directory")
    (node,) = desk.up.nodes().keys() - {"board"}
    assert "callboard" in desk.told("diagnose", node, user="operator")
    assert {one["name"] for one in json.loads(desk.told("user", "ls", "--json", user="admin"))} >= {
        "admin",
        "viewer",
    }
    assert "what" in desk.told("audit", user="admin")
    assert json.loads(desk.told("join", "ls", "--json", user="operator"))["codes"]
    assert "authority" in desk.told("trust", "show", user="viewer")
    assert json.loads(desk.told("update", "--json", user="operator")) == []


def test_large_content_goes_over_https_too(desk: Desk) -> None:
    (node,) = desk.up.nodes().keys() - {"board"}
    (desk.folder / "greeting.txt").write_text("hello")
    desk.told("push", node, str(desk.folder / "greeting.txt"), user="operator")
    assert len(json.loads(desk.told("update", "--json", user="operator"))) == 1


def test_who_says_nothing_of_who_they_are_is_told_how(desk: Desk) -> None:
    refused = desk("ls")
    assert refused.returncode == 1
    assert "--username" in refused.stderr
    assert "refuses user 'operator'" in desk("ls", "--username", "operator", user="viewer").stderr


def test_where_a_node_has_joined_its_board_is_known(desk: Desk) -> None:
    code, state = desk.up.cli("join").stdout.strip(), desk.folder / "joined"
    command = ["ip", "netns", "exec", desk.network.namespace("desk"), *CALLBOARD, "node", "--join", code]
    with (desk.folder / "joined.log").open("w") as log:
        node = subprocess.Popen(
            [*command, "--id", "far", "--state", str(state)], env=desk.env, stdout=log, stderr=log
        )
    try:
        eventually(lambda: desk.up.nodes().get("far") == "ready", "the node on the board")
        told = desk("ls", "nodes", user="viewer", state="joined")
        assert "far" in told.stdout, told.stderr
        assert desk("user", "ls", user="admin", state="joined").returncode == 0
    finally:
        node.terminate()
        node.wait(60)


def test_a_fingerprint_or_a_code_that_is_another_boards_pins_nothing(desk: Desk, tmp_path: Path) -> None:
    host, other = desk.network.machines["board"], Authority(tmp_path, "callboard")
    other.ensure(["localhost"])
    refused = desk("trust", "pin", host, "--fingerprint", other.fingerprint, state="another")
    assert refused.returncode == 1
    assert "not the board that was meant" in refused.stderr
    code = JoinCode(
        "callboard", (f"{host}:8443",), other.fingerprint, other.update_key, "00" * 16, 2_000_000_000
    )
    assert desk("trust", "pin", code.text, state="another").returncode == 1
    assert not (desk.folder / "another" / "board.json").exists()
    fits = desk.up.json("trust", "show")["fingerprint"]
    assert desk("trust", "pin", host, "--fingerprint", fits.upper(), state="another").returncode == 0


def test_nothing_is_sent_to_a_board_with_another_authority(desk: Desk, tmp_path: Path) -> None:
    other = Authority(tmp_path, "callboard")
    other.ensure(["localhost"])
    kept = json.loads((desk.folder / "desk" / "board.json").read_text())
    (desk.folder / "fooled").mkdir(exist_ok=True)
    (desk.folder / "fooled" / "board.json").write_text(json.dumps(kept | {"bundle": other.bundle}))
    for words in (("status",), ("ls",), ("user", "ls")):
        refused = desk(*words, user="admin", state="fooled")
        assert refused.returncode == 1
        assert "certificate" in refused.stderr


def test_an_api_token_serves_the_verbs_that_ask_the_board_itself(desk: Desk) -> None:
    made = json.loads(
        desk.told(
            "token",
            "add",
            "--user",
            "operator",
            "--scope",
            "read",
            "--scope",
            "command",
            "--json",
            user="admin",
        )
    )
    file = desk.folder / "token"
    file.write_text(made["token"] + "\n")
    login = ("--username", "operator", "--password-file", str(file))
    for words in (("join", "ls"), ("join",), ("job", "ls")):
        done = desk(*words, *login)
        assert done.returncode == 0, (words, done.stderr)
    refused = desk("user", "ls", *login)
    assert refused.returncode == 1
    assert "cannot administer" in refused.stderr
    refused = desk("ls", *login)
    assert refused.returncode == 1
    assert "an API token is for what is done over HTTP" in refused.stderr
