"""Embedded engine against mosquitto, both with passwords and access rules on: the table of what we promise.

    python bench/broker.py            the whole table, several rounds (about eight minutes on two cores)
    python bench/broker.py --quick    one short round
    python bench/broker.py --only fan-in --rounds 3
    python bench/broker.py --profile  where the embedded broker's processor time goes under each load (needs py-spy)

The load comes from `bench/load/mqload.c`, compiled here with `cc`. Every load runs on a freshly started broker, both
engines in turn, and what is compared is the median over the rounds. CPU seconds are the broker process's own, from
/proc/PID/stat, so that the generator and a noisy machine count as little as possible.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from load.sampling import Profile, sampled  # noqa: E402

from support.engines import ENGINES, Options, running  # noqa: E402

Sample = dict[str, float]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        mode: the generator's mode, with its options in `load`.
        metric: one number from a sample.
        at_least: the bar when more is better; `at_most` when less is.
        absolute: the bar is on the embedded engine's number, not on the ratio.
        unit: of the numbers, and `scale` what they are multiplied by to be shown in it.
    """

    name: str
    mode: str
    load: dict[str, Any]
    metric: Callable[[Sample], float]
    at_least: float | None = None
    at_most: float | None = None
    absolute: bool = False
    unit: str = "/CPU s"
    scale: float = 1.0
    cut: int = field(default=3, kw_only=True)  # how much smaller --quick makes it

    def options(self, *, rules: bool = True) -> Options:
        """What both brokers are started with.

        Mosquitto gets the better of its two settings for the kind of load: one segment per message costs it nearly
        half its throughput, waiting for more costs it 40 ms per round trip.
        """
        bulk = self.mode == "throughput"
        return Options(access=rules, mosquitto=(f"set_tcp_nodelay {'false' if bulk else 'true'}",))

    def met(self, ours: float, theirs: float) -> bool:
        """Whether the bar is met by these medians."""
        value = ours * self.scale if self.absolute else ours / theirs
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0)

    def bar(self) -> str:
        sign, value = ("≥", self.at_least) if self.at_least is not None else ("≤", self.at_most)
        return f"{sign} {value:g} {self.unit}" if self.absolute else f"{sign} {value:g} x"


def per_cpu(name: str) -> Callable[[Sample], float]:
    return lambda sample: sample[name] / sample["cpu"]


def plain(name: str) -> Callable[[Sample], float]:
    return lambda sample: sample[name]


FLEET = {"publishers": 10, "topics": 10}
TRIP = {"messages": 6_000}
ROWS = (
    Row(
        "QoS 0, 10 publishers → 1 wildcard subscriber",
        "throughput",
        {**FLEET, "messages": 600_000},
        per_cpu("messages"),
        1.5,
    ),
    Row(
        "QoS 1, same",
        "throughput",
        {**FLEET, "messages": 120_000, "qos": 1, "window": 20},
        per_cpu("messages"),
        1.3,
    ),
    Row(
        "fan-out 1 → 100, QoS 0",
        "throughput",
        {"publishers": 1, "subscribers": 100, "messages": 10_000, "window": 50},
        per_cpu("deliveries"),
        3.0,
    ),
    Row(
        "fan-out 1 → 100, QoS 1",
        "throughput",
        {"publishers": 1, "subscribers": 100, "messages": 2_000, "window": 10, "qos": 1},
        per_cpu("deliveries"),
        1.0,
    ),
    Row(
        "10,000 wildcard subscriptions, QoS 0",
        "throughput",
        {"publishers": 10, "topics": 100, "subscribers": 10, "filters": 1_000, "messages": 400_000},
        per_cpu("messages"),
        1.2,
    ),
    Row(
        "QoS 0 in bursts of 5, each waited for",
        "bursts",
        {**FLEET, "messages": 100_000},
        per_cpu("messages"),
        0.9,
    ),
    Row("round trip p50, unloaded", "round_trips", TRIP, plain("p50"), at_most=1.5, unit="ms", scale=1e3),
    Row("round trip p99, unloaded", "round_trips", TRIP, plain("p99"), at_most=2.0, unit="ms", scale=1e3),
    Row(
        "new connections with password",
        "connects",
        {"messages": 5_000, "window": 50},
        per_cpu("messages"),
        0.2,
    ),
    Row(
        "10,000 retained to a new subscriber",
        "retained",
        {"messages": 10_000, "size": 300},
        plain("seconds"),
        at_most=1.0,
        unit="ms",
        scale=1e3,
        cut=1,
    ),
    Row(
        "RSS per idle connection, 5,000 of them",
        "idle",
        {"messages": 5_000},
        lambda sample: sample["grown"] / sample["messages"],
        at_most=20.0,
        absolute=True,
        unit="KB",
        scale=1e-3,
        cut=5,
    ),
)

#: Where the cost of access rules is measured as well, and the share of throughput it may be.
RULED = ROWS[:2]
RULES_MAY_COST = 0.1
#: How much more than the table's load is sampled, and the smallest share that is shown.
SAMPLED, SHOWN = 4, 0.03


def build(folder: Path) -> Path:
    """Compile the load generator."""
    program = folder / "mqload"
    compiler = shutil.which("cc") or sys.exit("bench: needs a C compiler (`cc`), for example apt install gcc")
    subprocess.run([compiler, "-O2", "-o", program, ROOT / "bench/load/mqload.c"], check=True)
    return program


def measure(program: Path, engine_name: str, row: Row, *, quick: bool, rules: bool = True) -> Sample:
    """Start a broker, run one load against it, and return what generator and /proc say."""
    load = {**row.load, "messages": row.load["messages"] // (row.cut if quick else 1)}
    with (
        running(engine_name, options=row.options(rules=rules)) as engine,
        _generator(program, engine.port, row, load) as run,
    ):
        _expect(run, "ready")
        cpu, rss = engine.cpu_seconds(), engine.rss()
        run.stdin.write("go\n")
        run.stdin.flush()
        sample = {k: float(v) for k, v in (pair.split("=") for pair in _expect(run).split())}
        sample["cpu"] = max(engine.cpu_seconds() - cpu, 1 / os.sysconf("SC_CLK_TCK"))
        sample["grown"] = engine.rss() - rss
        return sample


@contextlib.contextmanager
def _generator(program: Path, port: int, row: Row, load: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    options = [f"{name}={value}" for name, value in load.items()]
    with subprocess.Popen(
        [program, str(port), row.mode, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        try:
            yield run
        finally:
            run.kill()


def _expect(run: subprocess.Popen[str], want: str = "") -> str:
    line = run.stdout.readline().strip()
    if not line.startswith(want) or not line:
        raise RuntimeError(f"the load generator ended early (status {run.wait()})")
    return line


Samples = dict[tuple[str, str], list[Sample]]


def collect(program: Path, rows: tuple[Row, ...], rounds: int, *, quick: bool) -> Samples:
    """All samples, by row and engine; rows that share a load share its samples."""
    samples: Samples = {}
    for number in range(rounds):
        done: dict[tuple[str, str, str], Sample] = {}
        for row in rows:
            for engine in ENGINES:
                key = (row.mode, json.dumps(row.load), engine)
                if key not in done:
                    _say(f"round {number + 1}/{rounds}: {row.name}, {engine}")
                    done[key] = measure(program, engine, row, quick=quick)
                samples.setdefault((row.name, engine), []).append(done[key])
    _say("")
    return samples


def cost_of_rules(program: Path, row: Row, rounds: int, *, quick: bool) -> float:
    """Share of the embedded engine's throughput that access rules cost, between medians."""
    numbers: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds):
        for rules in (True, False):
            _say(f"round {number + 1}/{rounds}: {row.name}, {'with' if rules else 'without'} rules")
            numbers[rules].append(row.metric(measure(program, "embedded", row, quick=quick, rules=rules)))
    _say("")
    return 1 - statistics.median(numbers[True]) / statistics.median(numbers[False])


def profile(program: Path, row: Row) -> Profile:
    """Sample the embedded broker under one load."""
    load = {**row.load, "messages": row.load["messages"] * (SAMPLED if row.mode != "retained" else 1)}
    with (
        running("embedded", options=row.options()) as engine,
        _generator(program, engine.port, row, load) as run,
    ):
        _expect(run, "ready")
        with sampled(engine.pid) as found:
            run.stdin.write("go\n")
            run.stdin.flush()
            _expect(run)
    return found


def profiles(program: Path, rows: tuple[Row, ...]) -> str:
    """A table in Markdown: for each load the places where the time goes."""
    lines = ["| load | kernel | where the time goes |", "|---|--:|---|"]
    done: set[str] = set()
    for row in rows:
        key = json.dumps([row.mode, row.load])
        if key not in done and row.mode != "idle":
            _say(f"sampling: {row.name}")
            found = profile(program, row)
            places = ", ".join(f"{share:.0%} {place}" for place, share in found.top(SHOWN))
            lines.append(f"| {row.name} | {found.kernel:.0%} | {places} |")
            done.add(key)
    _say("")
    return "\n".join(lines)


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"{text:79}", end="\r", file=sys.stderr, flush=True)


def table(rows: tuple[Row, ...], samples: Samples) -> tuple[str, bool]:
    """The table in Markdown, and whether every bar is met."""
    lines = ["| load | embedded | mosquitto | ratio | rounds | bar | |", "|---|--:|--:|--:|--:|--:|---|"]
    everything = True
    for row in rows:
        numbers = {engine: [row.metric(sample) for sample in samples[row.name, engine]] for engine in ENGINES}
        ours, theirs = (statistics.median(numbers[engine]) for engine in ENGINES)
        ratios = [a / b for a, b in zip(*numbers.values(), strict=True) if b > 0]
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}" if ratios else ""
        met = row.met(ours, theirs)
        everything &= met
        shown = [
            f"{value * row.scale:,.{0 if row.scale == 1 else 2}f} {row.unit}" for value in (ours, theirs)
        ]
        ratio = f"{ours / theirs:.2f}" if theirs > 0 else ""
        cells = [row.name, *shown, ratio, spread, row.bar(), "met" if met else "NOT MET"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines), everything


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round, smaller loads")
    parser.add_argument("--rounds", type=int, help="default 5, 1 with --quick")
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    parser.add_argument(
        "--profile", action="store_true", help="sample the embedded broker instead of comparing"
    )
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    asked = parser.parse_args()
    rows = tuple(row for row in ROWS if asked.only in row.name)
    rounds = asked.rounds or (1 if asked.quick else 5)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        program = build(Path(folder))
        if asked.profile:
            print(profiles(program, rows))
            return 0
        samples = collect(program, rows, rounds, quick=asked.quick)
        costs = {
            row.name: cost_of_rules(program, row, rounds, quick=asked.quick) for row in rows if row in RULED
        }
    text, met = table(rows, samples)
    print(f"{rounds} rounds, access rules on, medians\n\n{text}\n")
    for name, cost in costs.items():
        met &= cost < RULES_MAY_COST
        print(f"access rules cost {cost:.1%} of: {name} (bar: less than {RULES_MAY_COST:.0%})")
    if asked.json:
        asked.json.write_text(json.dumps([[*key, found] for key, found in samples.items()], indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
