"""callboard_nodes.sensors, on made-up trees of /proc and /sys and on this machine."""

from __future__ import annotations

import importlib

import psutil
import pytest

from callboard_nodes import sensors
from callboard_nodes.sensors import cpu, disk, elsewhere, memory, network, system, temperature

PI_PROC = {
    "stat": "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 100 0 50 800 50 0 0 0 0 0\n",
    "meminfo": "MemTotal:        3884456 kB\nMemFree:  100000 kB\nMemAvailable:     971114 kB\nHugePages_Total: 0\n",
    "loadavg": "0.52 0.58 0.59 1/467 12345\n",
    "uptime": "86461.12 340000.00\n",
    "net/dev": (
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
        "    lo: 999999    100    0    0    0     0          0         0 999999     100    0    0    0     0       0          0\n"
        "  eth0: 1000       10    0    0    0     0          0         0    500       5    0    0    0     0       0          0\n"
        "  wlan0:2000       10    0    0    0     0          0         0    700       5    0    0    0     0       0          0\n"
        "docker0: 7000      10    0    0    0     0          0         0   7000       5    0    0    0     0       0          0\n"
    ),
}
PI_SYS = {
    "class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "class/thermal/thermal_zone0/temp": "48312\n",
    "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    "devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "600000\n",
    "devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    "class/net/eth0/device/uevent": "",
    "class/net/wlan0/device/uevent": "",
}


def plant(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def pi(tmp_path):
    return plant(tmp_path / "proc", PI_PROC), plant(tmp_path / "sys", PI_SYS)


def test_a_raspberry_pi_has_all_of_them(pi):
    proc, sys = pi
    found = {one.card.name: one for one in sensors.builtin(proc=proc, sys=sys)}
    assert list(found) == [
        "cpu",
        "cpu-frequency",
        "memory",
        "disk",
        "network-in",
        "network-out",
        "load",
        "uptime",
        "throttled",
        "temperature-cpu-thermal",
    ]
    assert all("system" in one.card.tags for one in found.values())
    assert found["cpu-frequency"].read() == 1050
    assert found["memory"].read() == 75.0
    assert found["load"].read() == 0.52
    assert found["uptime"].read() == 86461
    assert found["throttled"].read() == "under-voltage, throttled"
    assert found["temperature-cpu-thermal"].read() == 48.3
    assert found["temperature-cpu-thermal"].card.label == "Temperature (cpu thermal)"


def test_a_machine_without_them_has_fewer(tmp_path, pi):
    proc, _ = pi
    names = [one.card.name for one in sensors.builtin(proc=proc, sys=tmp_path / "empty")]
    assert names == ["cpu", "memory", "disk", "network-in", "network-out", "load", "uptime"]


def test_cpu_load_is_the_busy_share_since_the_last_reading(pi):
    proc, _ = pi
    load = cpu.CpuLoad(proc)
    assert load() is None
    (proc / "stat").write_text("cpu  125 0 50 850 75 0 0 0 25 0\n")
    assert load() == 25.0
    assert load() is None, "no time has passed"


def test_network_counts_physical_interfaces_only(pi):
    proc, sys = pi
    now = [100.0]
    incoming = network.NetworkRate(proc, sys, network.RECEIVED, clock=lambda: now[0])
    outgoing = network.NetworkRate(proc, sys, network.SENT, clock=lambda: now[0])
    assert (incoming(), outgoing()) == (None, None)
    now[0] = 110.0
    text = PI_PROC["net/dev"].replace(" 1000 ", " 3000 ").replace(" 700 ", " 1700 ").replace("7000", "9000")
    (proc / "net" / "dev").write_text(text)
    assert (incoming(), outgoing()) == (200.0, 100.0)
    now[0] = 120.0
    (proc / "net" / "dev").write_text(PI_PROC["net/dev"])
    assert incoming() == 0.0, "counters that fell belong to an interface made anew"


def test_without_physical_interfaces_the_others_count(pi, tmp_path):
    proc, _ = pi
    now = [0.0]
    rate = network.NetworkRate(proc, tmp_path / "none", network.RECEIVED, clock=lambda: now[0])
    rate()
    now[0] = 10.0
    (proc / "net" / "dev").write_text(PI_PROC["net/dev"].replace("7000", "7100"))
    assert rate() == 10.0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("throttled=0x0\n", "ok"),
        ("0", "ok"),
        ("throttled=0x50000", "ok"),
        ("throttled=0x50005", "under-voltage, throttled"),
        ("a", "frequency capped, soft temperature limit"),
    ],
)
def test_throttling_is_told_in_words(answer, words):
    assert system.throttled(answer) == words


def test_vcgencmd_is_asked_where_sysfs_does_not_tell(tmp_path, monkeypatch):
    program = tmp_path / "vcgencmd"
    program.write_text("#!/bin/sh\necho throttled=0x1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = {one.card.name: one for one in sensors.builtin()}
    assert found["throttled"].read() == "under-voltage"


def test_a_pc_shows_its_hwmon_chips_and_leaves_out_what_sleeps(tmp_path):
    root = plant(
        tmp_path,
        {
            "class/hwmon/hwmon0/name": "k10temp\n",
            "class/hwmon/hwmon0/temp1_input": "55125\n",
            "class/hwmon/hwmon1/name": "nvme\n",
            "class/hwmon/hwmon1/temp1_input": "",
            "class/hwmon/hwmon2/name": "k10temp\n",
            "class/hwmon/hwmon2/temp1_input": "40000\n",
            "class/hwmon/hwmon3/name": "fan\n",
        },
    )
    found = temperature.sources(root)
    assert list(found) == ["temperature-k10temp", "temperature-k10temp-2"]
    assert temperature.read_millidegrees(found["temperature-k10temp"]) == 55.1


def test_this_machines_values_agree_with_psutil():
    found = {one.card.name: one for one in sensors.builtin()}
    assert found["disk"].read() == pytest.approx(psutil.disk_usage("/").percent, abs=1)
    assert found["load"].read() == pytest.approx(psutil.getloadavg()[0], abs=0.5)
    total = psutil.virtual_memory()
    assert found["memory"].read() == pytest.approx(100 * (1 - total.available / total.total), abs=2)
    assert disk.disk_used("/") > 0
    assert memory.sensors


def test_without_proc_psutil_is_asked(tmp_path):
    names = [one.card.name for one in sensors.builtin(proc=tmp_path)]
    assert names == ["cpu", "memory", "disk", "uptime"]
    assert all(one.read() is not None for one in sensors.builtin(proc=tmp_path))


def test_without_proc_and_psutil_there_is_nothing_but_a_hint(monkeypatch, caplog):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert elsewhere.sensors() == []
    assert "install psutil" in caplog.text
