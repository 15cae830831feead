"""Calls of workers: how fast, how many, and what happens when workers are killed; with two other systems beside it.

    python bench/calls.py
    python bench/calls.py --only lane,http --layer-cake ~/src/layer-cake

Workers are processes of their own. osBrain 0.6.5 is installed by the bench into a virtual environment of its own, under
``--cache``; layer-cake is not on a package index, so it needs a checkout of its repository (``--layer-cake`` or
LAYER_CAKE). What cannot be had is said. All times are those of a caller on the same machine; the bars are the project's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from load.processor import descendants  # noqa: E402
from load.processor import seconds as processor_seconds  # noqa: E402

from callboard_core.calls.pool import Pool  # noqa: E402
from callboard_core.directory import Directory  # noqa: E402
from callboard_core.link import Endpoint, Link  # noqa: E402
from callboard_core.messages import Status, StatusName, parse  # noqa: E402
from support.engines import running  # noqa: E402
from support.up import running_board  # noqa: E402

WORKER = """
import json, os, sys, time
from pathlib import Path
node_id, board, folder, host = sys.argv[1:5]
if host:
    from callboard_core.calls import place
    place._host = lambda: host
from callboard import Node
from callboard_core.settings import Settings
who = json.loads(os.environ.get("BENCH_CREDENTIAL", "{}"))
settings = Settings(state=Path(folder) / node_id, node={"board": board, "keepalive": 10, **who})
started = time.monotonic()
node = Node(node_id, settings=settings)

@node.worker(service="add", idempotent=True, concurrency=4)
def add(x: int, y: int) -> int:
    return x + y

@node.worker(service="who", idempotent=True, concurrency=4)
def who() -> str:
    return node_id

@node.worker(service="texture", idempotent=True, concurrency=2)
def texture(x: int = 8, y: int = 8) -> list[list[float]]:
    return [[float(row * x + column) for column in range(x)] for row in range(y)]

@node.worker(service="hold", idempotent=True, concurrency=4)
def hold(seconds: float) -> float:
    begun = time.monotonic()
    Path(folder, f"begun-{node_id}").write_text(str(begun))
    time.sleep(seconds)
    return begun

node.start(timeout=20)
print(started, flush=True)
sys.stdin.read()
node.stop()
"""

OSBRAIN = """
import json, sys, time
from osbrain import run_agent, run_nameserver

def echo(agent, message):
    return message["x"] + message["y"]

def spent(agent):
    return time.process_time()

def drive(agent, count):
    began = time.perf_counter()
    for number in range(count):
        agent.send("main", {"x": 2, "y": number})
        agent.recv("main")
    return count / (time.perf_counter() - began)

def add(agent, x, y):
    return x + y

if __name__ == "__main__":
    rounds, count = int(sys.argv[1]), int(sys.argv[2])
    server, found = run_nameserver(), {}
    for transport in ("ipc", "tcp"):
        replier, asker = run_agent("r" + transport), run_agent("a" + transport)
        asker.connect(replier.bind("REP", alias="main", handler=echo, transport=transport), alias="main")
        asker.set_method(drive=drive, spent=spent)
        replier.set_method(spent=spent)
        asker.drive(count // 4)
        before = asker.spent() + replier.spent()
        found["REQ/REP " + transport] = [asker.drive(count) for _ in range(rounds)]
        found["processor"] = [(asker.spent() + replier.spent() - before) / rounds / count]
    replier.set_method(add=add)
    for name, proxy in (("safe", replier), ("unsafe", replier.unsafe)):
        rates = []
        for _ in range(rounds):
            began = time.perf_counter()
            for number in range(count // 4):
                proxy.add(2, number)
            rates.append(count / 4 / (time.perf_counter() - began))
        found["proxy " + name] = rates
    print("RESULT" + json.dumps(found), flush=True)
    server.shutdown()
"""

LAYER_CAKE = {
    "bench_api.py": """
import layer_cake as lc

class Xy(object):
    def __init__(self, x: int = 1, y: int = 1):
        self.x, self.y = x, y

lc.bind(Xy)
table_type = lc.def_type(list[list[float]])
""",
    "bench_worker.py": """
import layer_cake as lc
from bench_api import Xy, table_type

def worker(self):
    while True:
        m = self.input()
        if isinstance(m, Xy):
            table = [[float(row * m.x + column) for column in range(m.x)] for row in range(m.y)]
            self.send(lc.cast_to(table, table_type), self.return_address)
        elif isinstance(m, lc.Faulted):
            return m
        elif isinstance(m, lc.Stop):
            return lc.Aborted()

lc.bind(worker, entry_point=[Xy])

if __name__ == "__main__":
    lc.create(worker)
""",
    "bench_server.py": """
import layer_cake as lc
from bench_api import Xy
from bench_worker import worker

def server(self, server_address: lc.HostPort = None):
    lc.listen(self, server_address, http_server=[Xy])
    m = self.input()
    if not isinstance(m, lc.Listening):
        return m
    spool = self.create(lc.ObjectSpool, lc.ProcessObject, worker)

    def respond(self, response, args):
        self.send(lc.cast_to(response, self.returned_type), args.caller)

    while True:
        m = self.input()
        if isinstance(m, Xy):
            asked = self.create(lc.GetResponse, m, spool)
            self.on_return(asked, respond, caller=self.return_address)
        elif isinstance(m, lc.Returned):
            then = self.debrief()
            if isinstance(then, lc.OnReturned):
                then(self, m)
        elif isinstance(m, lc.Faulted):
            return m
        elif isinstance(m, lc.Stop):
            return lc.Aborted()

lc.bind(server)

if __name__ == "__main__":
    lc.create(server)
""",
}


@dataclass(frozen=True)
class Row:
    """One line of the table; ``met`` is None where there is nothing to compare."""

    what: str
    measured: str
    bar: str
    met: bool | None

    def __str__(self) -> str:
        mark = {True: "yes", False: "NO", None: "-"}[self.met]
        return f"{self.what:<58} {self.measured:>30}  {self.bar:>28}  {mark}"


class Worker:
    """A node in a process of its own."""

    def __init__(self, name: str, endpoint: Endpoint, folder: Path, host: str = "", env: Any = None) -> None:
        self.name, self.folder = name, folder
        command = [sys.executable, "-c", WORKER, name, str(endpoint), str(folder), host]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=env,
        )

    def up(self) -> float:
        """Wait until it is on the board; returns when its node was made."""
        assert self.process.stdout is not None
        return float(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Bench:
    """A broker, a caller, and workers that come and go."""

    def __init__(self, endpoint: Endpoint, folder: Path, count: int) -> None:
        self.endpoint, self.folder, self.count = endpoint, folder, count
        self.workers: list[Worker] = []
        self.links: list[Link] = []

    def start(self, *names: str, host: str = "") -> list[Worker]:
        new = [Worker(name, self.endpoint, self.folder, host) for name in names]
        self.workers += new
        for one in new:
            one.up()
        return new

    def directory(self, name: str, *, direct: bool = True) -> Directory:
        link = Link(client_id=name, endpoint=self.endpoint)
        link.direct = direct
        self.links.append(link)
        directory = Directory(link)
        directory.start()
        link.start()
        link.wait_connected(10)
        directory.wait_complete(10)
        return directory

    def stop(self) -> None:
        for worker in self.workers:
            worker.close()
        for link in self.links:
            link.stop()


def sequential(call: Callable[[int], object], count: int) -> tuple[float, list[float]]:
    """Calls one after the other: per second, and each one's seconds, sorted."""
    taken = []
    began = time.perf_counter()
    for number in range(count):
        before = time.perf_counter()
        call(number)
        taken.append(time.perf_counter() - before)
    return count / (time.perf_counter() - began), sorted(taken)


def pipelined(pool: Pool, count: int, window: int = 64) -> float:
    waiting: deque[Any] = deque()
    began = time.perf_counter()
    for number in range(count):
        waiting.append(pool.submit(x=2, y=number))
        if len(waiting) >= window:
            waiting.popleft().result()
    while waiting:
        waiting.popleft().result()
    return count / (time.perf_counter() - began)


def through_the_broker(bench: Bench) -> list[Row]:
    bench.start("broker-road")
    pool = bench.directory("by-broker", direct=False).pool("add")
    pool.wait_ready(10)
    sequential(lambda n: pool.call(x=2, y=n), bench.count // 4)
    rounds = [sequential(lambda n: pool.call(x=2, y=n), bench.count // 2) for _ in range(3)]
    p50 = statistics.median(taken[len(taken) // 2] for _, taken in rounds)
    p99 = statistics.median(taken[len(taken) * 99 // 100] for _, taken in rounds)
    rates = [pipelined(pool, bench.count) for _ in range(3)]
    return [
        Row(
            "sequential through the broker, p50 / p99",
            f"{p50 * 1e3:.2f} / {p99 * 1e3:.2f} ms",
            "p50 <= 1 ms",
            p50 <= 1e-3,
        ),
        Row(
            "pipelined through the broker, 64 on their way",
            f"{statistics.median(rates):,.0f}/s",
            ">= 3,000/s",
            statistics.median(rates) >= 3000,
        ),
    ]


def by_lane(bench: Bench, cache: Path) -> list[Row]:
    (worker,) = bench.start("lane-road")
    directory = bench.directory("by-lane")
    pool = directory.pool("add")
    pool.wait_ready(10)
    proxy = directory.proxy("add")
    python = osbrain_python(cache)
    sequential(lambda n: pool.call(x=2, y=n), bench.count // 4)
    ours: dict[str, list[float]] = {"pool": [], "proxy": [], "pipelined": []}
    theirs: dict[str, list[float]] = {}
    taken: list[float] = []
    processor: list[float] = []
    for _ in range(3):  # in turns, so that both have the same machine
        before = processor_seconds([os.getpid(), worker.process.pid])
        rate, times = sequential(lambda n: pool.call(x=2, y=n), bench.count)
        processor.append((processor_seconds([os.getpid(), worker.process.pid]) - before) / bench.count)
        ours["pool"].append(rate)
        taken += times
        ours["proxy"].append(sequential(lambda n: proxy(x=2, y=n), bench.count)[0])
        ours["pipelined"].append(pipelined(pool, bench.count))
        for name, rates in osbrain(python, bench.count).items():
            theirs.setdefault(name, []).extend(rates)
    middle = {name: statistics.median(rates) for name, rates in ours.items()}
    taken.sort()
    found = [
        Row(
            "sequential over a lane (Unix socket), p50 / p99",
            f"{taken[len(taken) // 2] * 1e6:.0f} / {taken[len(taken) * 99 // 100] * 1e6:.0f} us",
            "",
            None,
        ),
        Row("sequential over a lane", f"{middle['pool']:,.0f}/s", "", None),
        Row("pipelined over a lane, 64 on their way", f"{middle['pipelined']:,.0f}/s", "", None),
    ]
    if not theirs:
        return [*found, Row("osBrain 0.6.5", "it could not be installed or run", ">= 1.0 x", None)]
    found.append(both_processors("call over a lane, REQ/REP tcp", processor, theirs.pop("processor")))
    for name, rates in theirs.items():
        rate, mine = statistics.median(rates), middle["proxy" if "proxy" in name else "pool"]
        found.append(
            Row(
                f"lane beside osBrain's {name}",
                f"{mine:,.0f} : {rate:,.0f} = {mine / rate:.2f} x",
                ">= 1.0 x",
                mine >= rate,
            )
        )
    return found


def both_processors(what: str, ours: list[float], theirs: list[float]) -> Row:
    """Processor time of both sides together: what a busy machine changes least."""
    mine, other = statistics.median(ours) * 1e6, statistics.median(theirs) * 1e6
    return Row(f"processor time: {what}", f"{mine:,.0f} : {other:,.0f} us", "", None)


def osbrain_python(cache: Path) -> Path | None:
    folder = cache / "osbrain-0.6.5"
    python = folder / "bin" / "python"
    if not python.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
            subprocess.run(
                [str(python), "-m", "pip", "install", "-q", "osbrain==0.6.5"],
                check=True,
                capture_output=True,
                timeout=300,
            )
        except (subprocess.SubprocessError, OSError) as error:
            print(f"osBrain cannot be installed: {error}", file=sys.stderr)
            return None
    return python


def osbrain(python: Path | None, count: int) -> dict[str, list[float]]:
    if python is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "program.py")
        program.write_text(OSBRAIN)
        child = subprocess.Popen(
            [str(python), str(program), "1", str(count)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            process_group=0,  # a session of its own would have a share of the processor of its own (autogroups)
        )
        try:
            output, _ = child.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            output = ""
        finally:
            kill_group(child)
    lines = [line for line in output.splitlines() if line.startswith("RESULT")]
    return json.loads(lines[0].removeprefix("RESULT")) if lines else {}


def kill_group(child: subprocess.Popen[Any]) -> None:
    """Kill a process and all it has started in its group."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


class Known:
    """When a node's loss is known to those who hear the broker."""

    def __init__(self, link: Link, node: str) -> None:
        self.at = 0.0
        self.heard = threading.Event()
        self._subscription = link.subscribe(f"{link.site}/{node}/status", self._hear)
        self._subscription.ready.result(5)

    def _hear(self, message: Any) -> None:
        if (
            message.payload
            and not message.retain
            and parse(Status, message.payload).status is StatusName.LOST
        ):
            self.at = time.monotonic()
            self.heard.set()


def joining(bench: Bench) -> list[Row]:
    directory = bench.directory("joining")
    taken = []
    for number in range(5):
        pool = Pool(directory, bench.links[-1], "who", wait=30.0)
        worker = Worker(f"late-{number}", bench.endpoint, bench.folder)
        bench.workers.append(worker)
        assert pool.call(timeout=30) == worker.name
        served = time.monotonic()
        taken.append(served - worker.up())
        pool.close()
        worker.kill()
        wait_for(lambda: not directory.find("who"))
    worst = max(taken)
    return [
        Row(
            "new worker: node made -> first call served, median / worst",
            f"{statistics.median(taken) * 1e3:.0f} / {worst * 1e3:.0f} ms",
            "<= 300 ms",
            statistics.median(taken) <= 0.3,
        )
    ]


def wait_for(condition: Callable[[], object], timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.0005)


def killing(bench: Bench) -> list[Row]:
    bench.directory("watching")  # over a link of its own: the first
    directories = [bench.directory(f"pools-{n}") for n in range(3)]
    out, elsewhere, wider = [], [], []
    for turn in range(5):
        victim, other = bench.start(f"near-{turn}", f"other-{turn}")
        [far] = bench.start(f"far-{turn}", host="somewhere")
        pools = [one.pool(service) for one in directories for service in ("who", "add", "hold")]
        for pool in pools:
            pool.wait_ready(10, members=3)
        out.append(kill_idle(bench.links[0], victim, pools))
        elsewhere.append(kill_busy(bench, directories[0], (other, far)))
        [near] = bench.start(f"close-{turn}")
        directories[1].pool("who").wait_ready(10, members=2)
        if other.process.poll() is None:
            other.kill()
        wait_for(lambda: len(directories[1].pool("who").members()) == 2)
        wider.append(fail_over(bench.links[0], directories[1].pool("who"), near, far))
        for one in (victim, other, far, near):
            one.close()
        wait_for(lambda: not directories[1].find("who"))
    return [
        row_ms("kill -9 of an idle worker: known -> out of nine pools", out, 50),
        row_ms("kill -9 of a busy worker -> its call begun elsewhere", elsewhere, 100),
        row_ms("loss known -> answer of a member that is farther away", wider, 20),
    ]


def row_ms(what: str, seconds: list[float], bar: float) -> Row:
    found = f"{statistics.median(seconds) * 1e3:.1f} / {max(seconds) * 1e3:.1f} ms"
    return Row(f"{what}, median / worst", found, f"<= {bar:g} ms", statistics.median(seconds) * 1e3 <= bar)


def kill_idle(link: Link, victim: Worker, pools: list[Pool]) -> float:
    known = Known(link, victim.name)
    victim.kill()
    wait_for(lambda: all(victim.name not in {one.node for one in pool.members()} for pool in pools))
    gone = time.monotonic()
    known.heard.wait(10)
    return max(0.0, gone - known.at)


def kill_busy(bench: Bench, directory: Directory, workers: tuple[Worker, ...]) -> float:
    """Kill whoever works on a call; returns the seconds until another one has begun it."""
    for one in workers:
        Path(bench.folder, f"begun-{one.name}").unlink(missing_ok=True)
    pool = directory.pool("hold")
    pool.wait_ready(10, members=2)
    future = pool.submit(seconds=0.3, timeout=20)
    begun: list[Worker] = []
    wait_for(
        lambda: (
            begun.extend(one for one in workers if Path(bench.folder, f"begun-{one.name}").exists()) or begun
        )
    )
    killed = time.monotonic()
    begun[0].process.send_signal(signal.SIGKILL)
    again = float(future.result(20))
    begun[0].process.wait()
    return again - killed


def fail_over(link: Link, pool: Pool, near: Worker, far: Worker) -> float:
    known = Known(link, near.name)
    assert {pool.call(timeout=5) for _ in range(5)} == {near.name}
    near.process.send_signal(signal.SIGKILL)
    while (who := pool.call(timeout=10)) != far.name:
        assert who == near.name
    answered = time.monotonic()
    known.heard.wait(10)
    near.process.wait()
    return max(0.0, answered - known.at)


def under_load(bench: Bench, calls: int = 3000) -> list[Row]:
    """Calls of several threads while workers are killed and replaced."""
    alive = bench.start(*(f"load-{n}" for n in range(4)))
    pool = bench.directory("loading").pool("add")
    pool.wait_ready(10, members=4)
    failed: list[BaseException] = []
    numbers = iter(range(calls))
    lock, done = threading.Lock(), threading.Event()

    def work() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                assert pool.call(x=number, y=1, timeout=20) == number + 1
            except Exception as error:  # noqa: BLE001 - they are counted
                failed.append(error)
            time.sleep(0.005)  # so that the kills fall in the middle of it

    killed = 0
    threads = [threading.Thread(target=work) for _ in range(8)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    threading.Thread(target=lambda: [thread.join() for thread in threads] and done.set()).start()
    while not done.wait(0.25):
        alive.pop(0).kill()
        killed += 1
        if len(alive) < 3:
            alive += bench.start(f"load-{3 + killed}", f"again-{killed}")
    took = time.monotonic() - began
    for one in alive:
        one.kill()
    for error in failed[:3]:
        print(f"failed: {error!r}", file=sys.stderr)
    return [
        Row(
            f"failed of {calls:,} calls, {killed} of their workers killed, {took:.1f} s",
            f"{len(failed)}",
            "0",
            not failed,
        )
    ]


# -- the HTTP front --------------------------------------------------------------------------------------------


class Getter:
    """A connection that asks the same again and again, with as little effort as can be."""

    def __init__(self, port: int, path: str, headers: str = "") -> None:
        self._port = port
        self._request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}\r\n".encode()
        self._socket: socket.socket | None = None

    def get(self) -> bytes:
        for _ in range(2):
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=30)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self._socket.sendall(self._request)
                if (body := self._read(self._socket)) is not None:
                    return body
            except ConnectionError:
                pass
            self.close()  # the other side keeps no connection
        raise ConnectionError("no answer")

    @staticmethod
    def _read(sock: socket.socket) -> bytes | None:
        raw = b""
        while b"\r\n\r\n" not in raw:
            data = sock.recv(65536)
            if not data:
                return None
            raw += data
        head, _, body = raw.partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise RuntimeError(head.decode(errors="replace").splitlines()[0])
        size = int(
            next(
                line.split(b":")[1]
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            )
        )
        while len(body) < size:
            body += sock.recv(65536)
        return body

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def requests_per_second(make: Callable[[], Getter], seconds: float, clients: int = 8) -> float:
    """So many clients at a time, each with a connection of its own."""
    counts, failed = [0] * clients, []
    stop = threading.Event()

    def client(number: int) -> None:
        getter = make()
        while not stop.is_set():
            try:
                getter.get()
                counts[number] += 1
            except (OSError, RuntimeError) as error:
                failed.append(error)
                getter.close()
                stop.wait(0.01)
        getter.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    if failed:
        print(f"{len(failed)} of {sum(counts)} requests failed: {failed[0]!r}", file=sys.stderr)
    return sum(counts) / (time.perf_counter() - began)


@dataclass(frozen=True)
class Round:
    """Requests a second, and the seconds of processor time that the servers needed for each."""

    rate: float
    each: float


def measured(make: Callable[[], Getter], seconds: float, pids: list[int]) -> Round:
    before, began = processor_seconds(pids), time.perf_counter()
    rate = requests_per_second(make, seconds)
    done = rate * (time.perf_counter() - began)
    return Round(rate, (processor_seconds(pids) - before) / max(done, 1.0))


def over_http(folder: Path, cache: Path, checkout: Path | None, seconds: float) -> list[Row]:
    home = folder / "http"
    home.mkdir()
    with running_board(home, node=False) as up:
        runtime = up.runtime
        endpoint = Endpoint(runtime.mqtt.host, runtime.mqtt.port)
        port = int(str(runtime.http.url).rsplit(":", 1)[1].strip("/"))
        token = log_in(str(runtime.http.url), "operator", up.password("operator"))
        who = json.dumps({"username": "node", "password": up.password("node")})
        workers = [
            Worker(f"http-{n}", endpoint, folder, env=os.environ | {"BENCH_CREDENTIAL": who})
            for n in range(8)
        ]
        try:
            for worker in workers:
                worker.up()

            def make() -> Getter:
                return Getter(port, "/api/v1/services/texture?x=2&y=2", f"Authorization: Bearer {token}\r\n")

            wait_for(lambda: served(make))
            requests_per_second(make, 1.0)
            pids = [runtime.pids["broker"], runtime.pids["board"]]
            pids += [worker.process.pid for worker in workers]
            theirs: list[Round] = []
            ours: list[Round] = []
            for _ in range(3):
                ours.append(measured(make, seconds, pids))
                if checkout is not None:
                    theirs += layer_cake(checkout, cache, folder, seconds)
            rate = statistics.median(one.rate for one in ours)
            thousand = asyncio.run(many_clients(port, token, 1000))
        finally:
            for worker in workers:
                worker.close()
    rows = [Row("HTTP front, 8 workers, 8 clients", f"{rate:,.0f}/s", "", None)]
    if theirs:
        other = statistics.median(one.rate for one in theirs)
        rows.append(both_processors("HTTP request", [one.each for one in ours], [one.each for one in theirs]))
        rows.append(
            Row(
                "HTTP front beside layer-cake's",
                f"{rate:,.0f} : {other:,.0f} = {rate / other:.2f} x",
                ">= 2 x",
                rate >= 2 * other,
            )
        )
    else:
        why = "no checkout given" if checkout is None else "it did not run"
        rows.append(Row("HTTP front beside layer-cake's", why, ">= 2 x", None))
    good, took = thousand
    rows.append(Row(f"1,000 HTTP clients at once, {took:.1f} s", f"{good} served", "1,000", good == 1000))
    return rows


def log_in(url: str, username: str, password: str) -> str:
    """Return a token."""
    body = json.dumps({"username": username, "password": password}).encode()
    request = urllib.request.Request(f"{url}/api/v1/session", body, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as answer:
        return str(json.load(answer)["token"])


def served(make: Callable[[], Getter]) -> bool:
    getter = make()
    try:
        return bool(getter.get())
    except (OSError, RuntimeError):
        return False
    finally:
        getter.close()


async def many_clients(port: int, token: str, count: int) -> tuple[int, float]:
    """So many clients, all connected before the first one asks; returns how many got an answer, and the seconds."""
    request = (
        "GET /api/v1/services/texture?x=2&y=2 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()
    opened = await asyncio.gather(
        *(asyncio.open_connection("127.0.0.1", port) for _ in range(count)), return_exceptions=True
    )
    began = time.perf_counter()

    async def ask(pair: Any) -> bool:
        if isinstance(pair, BaseException):
            return False
        reader, writer = pair
        try:
            writer.write(request)
            answer = await asyncio.wait_for(reader.read(), 60)
            return bool(answer.startswith(b"HTTP/1.1 200"))
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()

    good = await asyncio.gather(*(ask(pair) for pair in opened))
    return sum(good), time.perf_counter() - began


def layer_cake(checkout: Path, cache: Path, folder: Path, seconds: float) -> list[Round]:
    python = layer_cake_python(cache)
    home = Path(tempfile.mkdtemp(dir=folder))
    for name, text in LAYER_CAKE.items():
        (home / name).write_text(text)
    port = free_port()
    env = os.environ | {"PYTHONPATH": f"{checkout / 'src'}{os.pathsep}{home}"}
    address = json.dumps({"host": "127.0.0.1", "port": port})
    command = [str(python), "bench_server.py", f"--server-address={address}"]
    child = subprocess.Popen(
        command,
        cwd=home,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        wait_for(lambda: served(lambda: Getter(port, "/Xy?x=2&y=2")), 30)
        good = 0
        while good < 100:  # until its eight workers are there
            good = good + 1 if served(lambda: Getter(port, "/Xy?x=2&y=2")) else 0
        requests_per_second(lambda: Getter(port, "/Xy?x=2&y=2"), 1.0)
        return [measured(lambda: Getter(port, "/Xy?x=2&y=2"), seconds, descendants(child.pid))]
    except (TimeoutError, OSError) as error:
        print(f"layer-cake does not answer: {error!r}", file=sys.stderr)
        return []
    finally:
        kill_group(child)


def layer_cake_python(cache: Path) -> Path:
    folder = cache / "layer-cake"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "cffi", "PyNaCl", "ply"],
            check=True,
            capture_output=True,
            timeout=300,
        )
    return python


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


PARTS = ("broker", "lane", "join", "kill", "load", "http")


@contextmanager
def made(folder: Path, count: int) -> Iterator[Bench]:
    with running("embedded", folder / "broker") as engine:
        bench = Bench(Endpoint("127.0.0.1", engine.port), folder, count)
        try:
            yield bench
        finally:
            bench.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="fewer calls")
    parser.add_argument(
        "--layer-cake", type=Path, default=os.environ.get("LAYER_CAKE"), help="a checkout of its repository"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache" / "callboard-bench", help="for what is installed"
    )
    args = parser.parse_args()
    count, seconds = (1000, 2.0) if args.quick else (4000, 5.0)
    wanted = args.only.split(",")
    args.cache.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Callable[[Bench], list[Row]]] = {
        "broker": through_the_broker,
        "lane": lambda bench: by_lane(bench, args.cache),
        "join": joining,
        "kill": killing,
        "load": under_load,
    }
    checkout = Path(args.layer_cake) if args.layer_cake else None
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    for name in wanted:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / "broker").mkdir()
            if name == "http":
                rows = over_http(folder, args.cache, checkout, seconds)
            else:
                with made(folder, count) as bench:
                    rows = parts[name](bench)
        for row in rows:
            print(row, flush=True)
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
