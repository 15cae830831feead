"""What encryption and enrolment cost: MQTT over TLS beside plain MQTT in one run, and 200 machines let in at once.

    python bench/trust.py                5 rounds of each, and 200 machines
    python bench/trust.py --quick        2 short ones, and 20

The board is a real `callboard up --lan`. Rounds in clear and encrypted take turns, so that other work on the machine meets
both; the broker's processor time for a message says more than the throughput where clients share its cores.
"""

from __future__ import annotations

import argparse
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from callboard_core.trust import pinned_context  # noqa: E402
from callboard_core.trust.keys import new_key, signing_request  # noqa: E402
from support import packets as p  # noqa: E402
from support.lanboard import LanBoard, lan_board  # noqa: E402
from support.wire import Wire  # noqa: E402

#: Publishers, messages that each has under way, and bytes in a message.
PUBLISHERS, WINDOW, PAYLOAD = 4, 100, 100
#: Bytes of a PUBACK (MQTT 3.1.1, 3.4).
PUBACK = 4
#: The issue's figures: share of plain throughput that TLS may cost, and seconds for 200 machines.
MOST_COST, MOST_SECONDS = 0.25, 30.0


@dataclass(frozen=True)
class Round:
    """Messages a second, and microseconds of the broker's processor for each."""

    rate: float
    cpu: float


def publish(host: str, port: int, bundle: str, password: str, name: str, seconds: float) -> None:
    """Publish at QoS 1 for a while; prints how many were acknowledged."""
    tls: ssl.SSLContext | None = pinned_context(Path(bundle).read_text()) if bundle else None
    wire = Wire((host, port), tls=tls)
    assert wire.connect(name, username="admin", password=password).code == 0
    topic, payload = f"callboard/{name}/event/x", b"x" * PAYLOAD
    batch = b"".join(p.publish(topic, payload, qos=1, pid=pid, level=4) for pid in range(1, WINDOW + 1))
    print("ready", flush=True)
    sys.stdin.readline()
    done, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        wire.socket.sendall(batch)
        missing = WINDOW * PUBACK
        while missing:
            got = len(wire.socket.recv(65_536))
            assert got, "the broker closed the connection"
            missing -= got
        done += WINDOW
    print(done, flush=True)


def measure(board: LanBoard, *, encrypted: bool, seconds: float) -> Round:
    """One round of all publishers."""
    mqtt = board.up.runtime.mqtt
    host, port = board.mqtt if encrypted else (mqtt.host, mqtt.port)
    bundle = str(board.up.state / "trust" / "bundle.crt") if encrypted else ""
    command = [
        sys.executable,
        __file__,
        "--publish",
        host,
        str(port),
        bundle,
        board.up.password("admin"),
        str(seconds),
    ]
    running = [
        subprocess.Popen(
            [*command, f"load-{number}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(PUBLISHERS)
    ]
    for one in running:
        assert one.stdout is not None
        one.stdout.readline()
    pid = board.up.runtime.pids["broker"]
    before = _processor(pid)
    for one in running:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    done = sum(int(one.communicate()[0]) for one in running)
    return Round(done / seconds, (_processor(pid) - before) / done * 1e6)


def _processor(pid: int) -> float:
    """Seconds of processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def let_in(board: LanBoard, count: int) -> tuple[float, list[float]]:
    """Let many machines in at once; returns the seconds for all, and for each."""
    code = board.code(uses=count)
    asked = [
        {"token": code.token, "id": f"pi-{number}", "csr": signing_request(new_key(), f"pi-{number}")}
        for number in range(count)
    ]

    def ask(body: dict[str, str]) -> float:
        begun = time.monotonic()
        with board.http() as client:
            client.timeout = 120
            answer = client.post("/api/v1/enrol", json=body)
        assert answer.status_code == 200, answer.text
        return time.monotonic() - begun

    with ThreadPoolExecutor(min(count, 64)) as pool:
        begun = time.monotonic()
        each = list(pool.map(ask, asked))
        return time.monotonic() - begun, each


def _row(table: Table, name: str, rounds: list[Round]) -> None:
    rates, costs = [one.rate for one in rounds], [one.cpu for one in rounds]
    table.add_row(name, f"{statistics.median(rates):,.0f}", f"{statistics.median(costs):.1f}")


def report(rounds: int, seconds: float, machines: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, lan_board(Path(folder)) as board:
        plain, secure = [], []
        for _ in range(rounds):
            plain.append(measure(board, encrypted=False, seconds=seconds))
            secure.append(measure(board, encrypted=True, seconds=seconds))
        alone = [let_in_one(board, number) for number in range(3)]
        before = _processor(board.up.runtime.pids["board"])
        total, each = let_in(board, machines)
        cost = (_processor(board.up.runtime.pids["board"]) - before) / machines * 1e3
    console = Console()
    table = Table("QoS 1, from 4 publishers", "messages/s", "broker µs/message", title="TLS beside plain")
    _row(table, "plain", plain)
    _row(table, "TLS", secure)
    console.print(table)
    rate = 1 - statistics.median(one.rate for one in secure) / statistics.median(one.rate for one in plain)
    cpu = 1 - statistics.median(one.cpu for one in plain) / statistics.median(one.cpu for one in secure)
    console.print(
        f"TLS costs {rate:.0%} of the throughput, {cpu:.0%} by the broker's processor (at most {MOST_COST:.0%})"
    )
    console.print(
        f"one machine alone {statistics.median(alone):.2f} s; {machines} at once {total:.1f} s "
        f"(200 in at most {MOST_SECONDS:g} s), each after {statistics.median(each):.2f} s, the last {max(each):.2f} s; "
        f"{cost:.0f} ms of the board's processor for each"
    )


def let_in_one(board: LanBoard, number: int) -> float:
    """Seconds from having a code to having the credential."""
    code = board.code()
    begun = time.monotonic()
    with board.http() as client:
        csr = signing_request(new_key(), f"alone-{number}")
        answer = client.post("/api/v1/enrol", json={"token": code.token, "id": f"alone-{number}", "csr": csr})
    assert answer.status_code == 200, answer.text
    return time.monotonic() - begun


def main() -> None:
    """Run the benchmark, or one of its publishers."""
    if sys.argv[1:2] == ["--publish"]:
        host, port, bundle, password, seconds, name = sys.argv[2:]
        publish(host, int(port), bundle, password, name, float(seconds))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    report(*((2, 2.0, 20) if quick else (5, 4.0, 200)))


if __name__ == "__main__":
    main()
