"""The agent on a real broker: what it offers, restart in place, hardware that comes and goes, memory."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from callboard_core.errors import BadRequest, NotFound
from callboard_core.settings import Settings
from callboard_nodes.agent import make_agent, run_agent
from callboard_nodes.hardware import buses, device
from callboard_nodes.hardware.simulated import Mcp9808Chip
from support.mosquitto import mosquitto
from support.nodes import node_settings, observer

__all__ = ["mosquitto", "observer"]

AGENT = """
import sys
from pathlib import Path
from callboard_core.settings import Settings
from callboard_nodes.agent import run_agent
settings = Settings.model_validate_json(Path(sys.argv[1]).read_text())
run_agent(settings, modules=[Path(name) for name in sys.argv[2:]], ready=lambda: print("ready", flush=True))
"""


@pytest.fixture
def start(tmp_path):
    """Start the agent as a process, and return it once it is on the board."""
    children = []

    def run(settings, *modules):
        (tmp_path / "agent.py").write_text(AGENT)
        (tmp_path / "settings.json").write_text(settings.model_dump_json())
        command = [
            sys.executable,
            str(tmp_path / "agent.py"),
            str(tmp_path / "settings.json"),
            *map(str, modules),
        ]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout.readline() == "ready\n"
        return child

    yield run
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()


def test_the_agent_offers_this_machines_sensors_and_the_allowed_actions(start, mosquitto, observer, tmp_path):
    start(node_settings(tmp_path, mosquitto.endpoint, id="pc", label="The PC", tags=["office"]))
    for name in ("memory", "disk", "load", "uptime", "outbox"):
        assert observer.wait(f"pc/state/sensor/{name}")["v"] >= 0
    assert observer.wait("pc/state/sensor/cpu", timeout=60)["v"] >= 0
    assert observer.wait("pc/announce")["label"] == "The PC"
    assert observer.wait("pc/announce/action/restart")["confirm"] == "Restart the agent of pc?"
    assert observer.of("pc/announce/action/reboot") == []
    with pytest.raises(NotFound):
        observer.call("pc", "action", "reboot")


def test_the_agent_restarts_in_place(start, mosquitto, observer, tmp_path):
    child = start(node_settings(tmp_path, mosquitto.endpoint, id="pc"))
    assert observer.call("pc", "action", "restart") == "the agent restarts"
    assert child.stdout.readline() == "ready\n"
    observer.wait("pc/status", lambda status: status == {**status, "status": "ready", "epoch": 2})
    names = [(status["status"], status["epoch"]) for status in observer.of("pc/status")]
    assert names == [("ready", 1), ("disconnected", 1), ("ready", 2)]
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 0


def test_the_agent_needs_less_than_60_mb(start, mosquitto, observer, tmp_path):
    hardware = [{"driver": name, "bus": "simulated"} for name in ("bme280", "mcp9808", "ads1115")]
    settings = node_settings(tmp_path, mosquitto.endpoint, id="pc").model_copy(update={"sensors": hardware})
    child = start(settings)
    observer.wait("pc/state/sensor/cpu", timeout=60)
    observer.wait("pc/state/sensor/ads1115")
    status = Path(f"/proc/{child.pid}/status").read_text()
    megabytes = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
    assert megabytes < 60
    assert "streamlit" not in Path(f"/proc/{child.pid}/maps").read_text()


def test_a_module_adds_things_to_the_agent(start, mosquitto, observer, tmp_path):
    module = tmp_path / "pond.py"
    module.write_text(
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Pond:\n"
        "    depth: float = 1.5\n"
        "def setup(node):\n"
        "    pond = Pond()\n"
        "    node.sensor(lambda: pond.depth, name='depth', unit='m', every=0.1)\n"
    )
    start(node_settings(tmp_path, mosquitto.endpoint, id="pc", builtin_sensors=False), module)
    assert observer.wait("pc/state/sensor/depth")["v"] == 1.5
    assert observer.of("pc/announce/sensor/cpu") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no module"),
        (
            "x = 1",
            r"has no function setup\(node\); a file with a Node of its own is run with `callboard node",
        ),
    ],
)
def test_a_module_that_is_none_is_named(tmp_path, text, words):
    module = tmp_path / "module.py"
    if text is not None:
        module.write_text(text)
    with pytest.raises(BadRequest, match=words):
        make_agent(node_settings(tmp_path, None), modules=[module], restart=lambda: None)


def test_a_wrong_hardware_table_ends_the_agent_before_it_starts(tmp_path):
    settings = Settings(state=tmp_path, sensors=[{"driver": "bme280", "adress": 1}])
    with pytest.raises(BadRequest, match=r"\[\[sensor\]\] number 1 .*did you mean 'address'"):
        run_agent(settings)


def test_an_unplugged_chip_shows_as_an_error_and_comes_back(mosquitto, observer, tmp_path, monkeypatch):
    monkeypatch.setattr(device, "RETRY", 0.0)
    monkeypatch.setattr(buses, "_buses", {})
    bus = buses.get_bus("simulated").simulated
    bus.plug(0x18, Mcp9808Chip(20.5))
    bus.plug(0x19, Mcp9808Chip(10.0))
    tables = [
        {"driver": "mcp9808", "bus": "simulated", "every": 0.1, "address": address, "name": f"wall-{address}"}
        for address in (0x18, 0x19)
    ]
    settings = node_settings(tmp_path, mosquitto.endpoint, id="pc", builtin_sensors=False)
    with make_agent(settings.model_copy(update={"sensors": tables}), restart=lambda: None):
        assert observer.wait("state/sensor/wall-24")["v"] == 20.5
        chip = bus.unplug(0x18)
        state = observer.wait("state/sensor/wall-24", lambda state: "error" in state)
        assert "mcp9808 at 0x18 on the simulated bus does not answer" in state["error"]["message"]
        observer.forget()
        assert observer.wait("state/sensor/wall-25")["v"] == 10.0
        bus.plug(0x18, chip)
        assert observer.wait("state/sensor/wall-24", lambda state: "v" in state)["v"] == 20.5
        assert observer.wait("event/recovered")["data"]["name"] == "wall-24"


def test_a_pin_is_switched_and_its_state_restored(mosquitto, observer, tmp_path):
    from callboard_nodes.hardware.simulated import simulated_pin

    settings = node_settings(tmp_path, mosquitto.endpoint, id="pc", builtin_sensors=False).model_copy(
        update={"controls": [{"driver": "gpio", "bus": "simulated", "pin": 22, "name": "pump"}]}
    )
    with make_agent(settings, restart=lambda: None):
        assert observer.call("pc", "control", "pump", value=True) == {"value": True}
        assert simulated_pin("D22").value is True
    simulated_pin("D22").value = False
    with make_agent(settings, restart=lambda: None):
        observer.wait_for(lambda: simulated_pin("D22").value)


def test_the_example_runs_as_it_is(mosquitto, observer, tmp_path):
    example = Path(__file__).parents[2] / "examples" / "greenhouse.py"
    environment = {
        **os.environ,
        "CALLBOARD_STATE": str(tmp_path),
        "CALLBOARD_NODE_BOARD": str(mosquitto.endpoint),
    }
    child = subprocess.Popen([sys.executable, str(example)], env=environment, stderr=subprocess.DEVNULL)
    try:
        observer.wait("greenhouse/status", lambda status: status["status"] == "ready")
        assert observer.call("greenhouse", "control", "fan", value=55) == {"value": 55}
        steps = []
        answer = observer.begin(
            "greenhouse", "action", "open-vent", 10.0, seconds=1, on_progress=steps.append
        )
        assert answer.result() == "the vent was open for 1 s"
        assert steps == sorted(steps)
        assert json.dumps(observer.wait("greenhouse/state/sensor/temperature"))
    finally:
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 0


def test_a_set_control_is_echoed_within_milliseconds(mosquitto, observer, tmp_path):
    from callboard import Node

    node = Node("pc", settings=node_settings(tmp_path, mosquitto.endpoint))
    node.control(lambda value: None, name="dial")
    times = []
    with node:
        for value in range(100):
            began = time.perf_counter()
            observer.call("pc", "control", "dial", value=value)
            times.append(time.perf_counter() - began)
    times.sort()
    assert times[50] < 0.05, f"median {1000 * times[50]:.1f} ms"


def test_operators_see_the_agents_log_and_its_diagnosis(start, mosquitto, observer, tmp_path):
    start(node_settings(tmp_path, mosquitto.endpoint, id="pc"))
    observer.wait("pc/announce/action/log")
    found = observer.call("pc", "action", "log", lines=50)
    assert any("node pc is on the board" in line for line in found["lines"])
    later = observer.call("pc", "action", "log", after=found["next"])
    assert not set(later["lines"]) & set(found["lines"])
    told = observer.call("pc", "action", "diagnose", timeout=90)
    assert "versions" in {check["what"] for check in told["checks"]}


def test_a_node_that_allows_nothing_offers_nothing(start, mosquitto, observer, tmp_path):
    start(node_settings(tmp_path, mosquitto.endpoint, id="pc", allow=[]))
    observer.wait("pc/status")
    for name in ("restart", "log", "diagnose", "update"):
        assert observer.of(f"pc/announce/action/{name}") == []
        with pytest.raises(NotFound):
            observer.call("pc", "action", name)
