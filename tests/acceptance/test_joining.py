"""A machine joins a board over a network that nobody trusts: two hosts, join codes, and TLS between them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from callboard_core.trust import JoinCode
from support.netns import Lan, ip, lan
from support.root import needs_root
from support.up import CALLBOARD, Up, clean_environment, eventually, free_udp_port, running_board

pytestmark = [needs_root, pytest.mark.timeout(600)]

#: Seconds for what takes a second on an idle machine.
PATIENCE = 120.0


@dataclass
class Machine:
    """``callboard node`` on a host of its own."""

    hosts: Hosts
    id: str
    state: Path
    process: subprocess.Popen[str] | None = None

    @property
    def log(self) -> str:
        file = self.state.with_suffix(".log")
        return file.read_text() if file.exists() else ""

    def start(self, *flags: str) -> Machine:
        with self.state.with_suffix(".log").open("w") as log:
            self.process = subprocess.Popen(
                self.hosts.on("far", *CALLBOARD, "node", "--state", str(self.state), "--id", self.id, *flags),
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.hosts.env, text=True,
            )  # fmt: skip
        return self

    def said(self, text: str) -> None:
        def said() -> bool:
            assert self.process is not None
            assert text in self.log or self.process.poll() is None, self.log
            return text in self.log

        eventually(said, lambda: f"{text!r} in:\n{self.log}\n{self.hosts.up.logs()}", PATIENCE)

    def is_there(self) -> Machine:
        self.said(f"ready: node {self.id} is on the board")
        return self

    def ended(self) -> str:
        assert self.process is not None
        assert self.process.wait(PATIENCE) == 1, self.log
        return self.log

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE)


@dataclass
class Hosts:
    """A board on one host, and machines on another one."""

    network: Lan
    up: Up
    folder: Path
    env: dict[str, str]
    machines: list[Machine] = field(default_factory=list)

    def on(self, host: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.network.namespace(host), *command]

    def machine(self, id_: str, state: str | None = None) -> Machine:
        made = Machine(self, id_, self.folder / (state or id_))
        self.machines.append(made)
        return made

    def code(self, *flags: str) -> str:
        return self.up.cli("join", *flags).stdout.strip()

    def status(self, node: str) -> str | None:
        return next((row["status"] for row in self.up.json("ls", "nodes") if row["node"] == node), None)

    def asked(self, node: str) -> list[str]:
        """What became of every machine that wanted to be this node, the newest first."""
        found = self.up.json("join", "ls")["machines"]
        return [one["state"] for one in found if one["id"] == node]


@contextmanager
def two_hosts(folder: Path) -> Iterator[Hosts]:
    with lan() as network:
        network.add("board")
        network.add("far")
        for name in network.machines:
            ip("-n", network.namespace(name), "link", "set", "lo", "up")
        udp = free_udp_port()
        prefix = ("ip", "netns", "exec", network.namespace("board"))
        board, far = folder / "board", folder / "far"
        board.mkdir()
        far.mkdir()
        env = {"CALLBOARD_DISCOVERY_PORT": str(udp)}
        with running_board(board, "--lan", prefix=prefix, env=env, node=False) as up:
            made = Hosts(network, up, far, clean_environment(far, udp))
            try:
                yield made
            finally:
                for machine in made.machines:
                    machine.stop()


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with two_hosts(tmp_path_factory.mktemp("joining")) as made:
        yield made


def test_a_machine_joins_with_a_code_and_stays_joined_after_a_restart(hosts: Hosts):
    machine = hosts.machine("greenhouse").start("--join", hosts.code()).is_there()
    assert "greenhouse has joined site callboard" in machine.log
    assert hosts.status("greenhouse") == "ready"
    eventually(lambda: cpu(hosts, "greenhouse"), "a reading of its processor")
    found = connections(hosts)
    assert 8883 in found
    assert found <= {8883, 8443}, "and over TLS only: MQTT, and HTTPS for files"
    machine.stop()
    assert hosts.status("greenhouse") == "disconnected"
    machine.start().is_there()
    assert "has joined" not in machine.log
    hosts.up.stop(timeout=PATIENCE)
    hosts.up.start().wait_ready()
    eventually(lambda: hosts.status("greenhouse") == "ready", lambda: machine.log, PATIENCE)


def cpu(hosts: Hosts, node: str) -> bool:
    rows = hosts.up.json("ls", "sensors", "--node", node)
    return any(isinstance(row["value"], int | float) for row in rows)


def connections(hosts: Hosts) -> set[int]:
    """Ports of the board that the far host has connections to."""
    found = subprocess.run(
        hosts.on("far", "cat", "/proc/net/tcp"), capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in found.stdout.splitlines()[1:]]
    return {int(row[2].rpartition(":")[2], 16) for row in rows if row[3] == "01"}


def test_a_code_that_was_used_lets_nobody_else_in(hosts: Hosts):
    code = hosts.code()
    hosts.machine("first").start("--join", code).is_there()
    thief = hosts.machine("second").start("--join", code)
    assert "has let in a machine already" in thief.ended()
    assert hosts.status("second") is None


def test_a_code_comes_from_standard_input_so_that_nobody_sees_it_among_the_processes(hosts: Hosts):
    code = hosts.code()
    done = subprocess.Popen(
        hosts.on("far", *CALLBOARD, "node", "--state", str(hosts.folder / "piped"), "--id", "piped", "--join", "-"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=hosts.env,
    )  # fmt: skip
    assert done.stdin is not None
    done.stdin.write(code)
    done.stdin.close()
    try:
        eventually(lambda: hosts.status("piped") == "ready", "the node", PATIENCE)
    finally:
        done.terminate()
        assert done.stdout is not None
        done.stdout.read()
        done.wait(PATIENCE)
        done.stdout.close()


def test_a_machine_with_a_file_waits_for_the_yes_and_forgets_the_code(hosts: Hosts):
    file = hosts.folder / "join"
    file.write_text(hosts.code("--ask") + "\n")
    machine = hosts.machine("asked").start("--join-file", str(file))
    machine.said("waiting for the operator")
    assert hosts.asked("asked") == ["pending"]
    assert file.exists()
    hosts.up.cli("join", "accept", "asked")
    machine.is_there()
    assert not file.exists()
    assert hosts.asked("asked") == ["accepted"]


def test_a_machine_that_was_refused_is_told(hosts: Hosts):
    machine = hosts.machine("refused").start("--join", hosts.code("--ask"))
    machine.said("waiting for the operator")
    hosts.up.cli("join", "reject", "refused")
    assert "an operator has refused to let refused in" in machine.ended()
    assert hosts.status("refused") is None


def test_a_machine_with_a_new_card_waits_for_the_yes_and_takes_over(hosts: Hosts):
    old = hosts.machine("shed", "shed-old").start("--join", hosts.code()).is_there()
    old.stop()
    new = hosts.machine("shed", "shed-new").start("--join", hosts.code())
    new.said("waiting for the operator")
    old.start().is_there()
    old.stop()
    hosts.up.cli("join", "accept", "shed")
    new.is_there()
    new.stop()
    assert "has withdrawn the enrolment" in old.start().ended()
    new.start().is_there()


def test_a_code_for_one_id_needs_no_yes_for_a_new_card(hosts: Hosts):
    hosts.machine("barn", "barn-old").start("--join", hosts.code()).is_there().stop()
    hosts.machine("barn", "barn-new").start("--join", hosts.code("--id", "barn")).is_there()


def test_a_node_whose_credential_was_revoked_is_gone_and_told(hosts: Hosts):
    machine = hosts.machine("revoked").start("--join", hosts.code()).is_there()
    hosts.up.cli("join", "revoke", "revoked")
    eventually(lambda: hosts.status("revoked") != "ready", "its session ends", PATIENCE)
    machine.stop()
    assert "has withdrawn the enrolment" in machine.start().ended()
    machine.start("--join", hosts.code()).is_there()


def test_a_machine_that_has_joined_says_so_and_goes_on(hosts: Hosts):
    machine = hosts.machine("again").start("--join", hosts.code()).is_there()
    machine.stop()
    code = hosts.code()
    machine.start("--join", code).is_there()
    assert "has joined site callboard already; going on" in machine.log
    machine.stop()
    other = JoinCode.parse(code)
    stranger = replace(other, site="elsewhere", authority="00" * 32).text
    assert "add --yes to leave it" in machine.start("--join", stranger).ended()


IMPOSTOR = """
import sys
from callboard_core.discovery import Advertiser
from support.standin import StandIn
port, udp = int(sys.argv[1]), int(sys.argv[2])
with StandIn().serving("0.0.0.0", port) as thief:
    told = Advertiser(site="callboard", mqtt_port=1883, bind="0.0.0.0", port=udp, mdns=False, mqtts=port, https=port)
    told.start()
    print("ready", flush=True)
    sys.stdin.readline()
    told.stop()
    print(thief.met, repr(thief.told))
"""


def test_a_board_that_moves_is_found_again_and_an_impostor_in_its_place_learns_nothing(tmp_path: Path):
    with two_hosts(tmp_path) as hosts:
        machine = hosts.machine("greenhouse").start("--join", hosts.code()).is_there()
        udp = hosts.env["CALLBOARD_DISCOVERY_PORT"]
        record = machine.state / "nodes" / "greenhouse" / "enrolment" / "enrolment.json"

        def known() -> str:
            return json.loads(record.read_text())["addresses"][0]

        move(hosts, "10.77.0.200")
        eventually(lambda: known() == "10.77.0.200:8443", lambda: machine.log, PATIENCE)
        machine.is_there().stop()
        move(hosts, "10.77.0.201")
        with impostor(hosts, "10.77.0.200", udp) as learned:
            machine.start().is_there()
        met, told = learned[0].split(" ", 1)
        assert int(met) > 0, "it was tried"
        assert told.strip() == "[]", "and learned nothing"
        assert known() == "10.77.0.201:8443"


def move(hosts: Hosts, address: str) -> None:
    """Give the board's host another address, as a router does."""
    namespace, old = hosts.network.namespace("board"), hosts.network.machines["board"]
    ip("-n", namespace, "address", "del", f"{old}/24", "dev", "eth0")
    ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
    hosts.network.machines["board"] = address


@contextmanager
def impostor(hosts: Hosts, address: str, udp: str) -> Iterator[list[str]]:
    """Somebody with an address that answers discovery and TLS; what he has learned is there at the end."""
    learned: list[str] = []
    hosts.network.add("thief", cable=False)
    hosts.network.machines["thief"] = address
    hosts.network.plug("thief")
    # What a gratuitous ARP of the thief's would do: the machine forgets whose the address was.
    ip("-n", hosts.network.namespace("far"), "neighbour", "flush", "all")
    process = subprocess.Popen(
        hosts.on("thief", sys.executable, "-c", IMPOSTOR, "8883", udp),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield learned
        process.stdin.write("\n")
        process.stdin.flush()
        learned.append(process.stdout.readline())
