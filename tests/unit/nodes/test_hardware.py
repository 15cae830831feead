"""callboard_nodes.hardware: unmodified drivers of Adafruit's on register-level simulated chips, and tables."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard_core.errors import BadRequest, Unavailable
from callboard_nodes import hardware
from callboard_nodes.hardware import buses, device
from callboard_nodes.hardware.simulated import (
    Ads1115Chip,
    Bme280Chip,
    Mcp9808Chip,
    SimulatedBus,
    simulated_pin,
    wave,
)


@pytest.fixture
def bus(monkeypatch):
    """The simulated bus, empty."""
    monkeypatch.setattr(buses, "_buses", {})
    found = buses.get_bus("simulated").simulated
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    monkeypatch.setattr(device, "RETRY", 0.0)


def sensors(**table):
    return {one.card.name: one for one in hardware.things([table])}


# -- chips -------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.floats(-40, 85), st.floats(0, 100), st.floats(300, 1100))
def test_a_bme280_reads_what_the_chip_measures(temperature, humidity, pressure):
    from adafruit_bme280.basic import Adafruit_BME280_I2C

    bus = SimulatedBus()
    bus.plug(0x76, Bme280Chip(temperature, humidity, pressure))
    chip = Adafruit_BME280_I2C(bus, 0x76)
    assert chip.temperature == pytest.approx(temperature, abs=0.01)
    assert chip.humidity == pytest.approx(humidity, abs=0.02)
    assert chip.pressure == pytest.approx(pressure, abs=0.05)


@settings(max_examples=60, deadline=None)
@given(st.floats(-40, 125))
def test_a_mcp9808_reads_sixteenths_of_a_degree(temperature):
    from adafruit_mcp9808 import MCP9808

    bus = SimulatedBus()
    bus.plug(0x18, Mcp9808Chip(temperature))
    assert MCP9808(bus).temperature == pytest.approx(temperature, abs=1 / 32)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 3),
    st.sampled_from([(1, 4.096), (2, 2.048), (4, 1.024), (8, 0.512), (16, 0.256)]),
    st.data(),
)
def test_an_ads1115_reads_each_channel_at_each_gain(channel, gain_and_range, data):
    from adafruit_ads1x15 import ADS1115, AnalogIn

    gain, full = gain_and_range
    volts = [data.draw(st.floats(-full, full)) for _ in range(4)]
    bus = SimulatedBus()
    bus.plug(0x48, Ads1115Chip(*volts))
    assert AnalogIn(ADS1115(bus, gain=gain), channel).voltage == pytest.approx(
        volts[channel], abs=full / 32768 * 1.01
    )


def test_an_ads1115_reads_differences_and_stops_at_full_scale():
    from adafruit_ads1x15 import ADS1115, AnalogIn

    bus = SimulatedBus()
    bus.plug(0x48, Ads1115Chip(3.0, 1.0, 9.0))
    converter = ADS1115(bus)
    assert AnalogIn(converter, 0, 1).voltage == pytest.approx(2.0, abs=0.001)
    assert AnalogIn(converter, 2).voltage == pytest.approx(4.096, abs=0.001)


def test_who_is_not_on_the_bus_does_not_answer():
    bus = SimulatedBus()
    bus.plug(0x18, Mcp9808Chip(20))
    assert bus.scan() == [0x18]
    with pytest.raises(OSError) as caught:
        bus.writeto(0x19, b"")
    assert caught.value.errno == errno.EREMOTEIO == 121
    assert bus.try_lock()
    assert not bus.try_lock()
    bus.unlock()
    assert 18 <= wave(20, 2)() <= 22


# -- tables ------------------------------------------------------------------------------------------------------


def test_a_bme280_is_three_sensors(bus):
    bus.plug(0x76, Bme280Chip(21.25, 40.5, 1002.3))
    found = sensors(driver="bme280", bus="simulated", address=0x76, every=2, name="attic", tags=["roof"])
    values = {name: one.read() for name, one in found.items()}
    assert values == pytest.approx(
        {"attic-temperature": 21.25, "attic-humidity": 40.5, "attic-pressure": 1002.3}, abs=0.05
    )
    card = found["attic-pressure"].card
    assert (card.unit, card.every, card.tags, card.label) == ("hPa", 2, ["roof"], "attic pressure")


def test_an_analogue_input_is_scaled_to_its_unit(bus):
    bus.plug(0x48, Ads1115Chip(0.0, 1.65))
    table = {"driver": "ads1115", "bus": "simulated", "channel": 1, "scale": 100, "offset": -50, "unit": "°C"}
    (one,) = sensors(**table, normal={"high": 60}).values()
    assert one.read() == pytest.approx(115, abs=0.1)
    assert (one.card.unit, one.card.normal.high) == ("°C", 60)


def test_without_a_chip_of_ones_own_the_simulated_bus_has_one(bus):
    tables = [{"driver": name, "bus": "simulated"} for name in ("bme280", "mcp9808", "ads1115")]
    assert all(isinstance(one.read(), float) for one in hardware.things(tables))
    assert bus.scan() == [0x18, 0x48, 0x77]


def test_an_unplugged_chip_is_an_error_and_comes_back_by_itself(bus):
    bus.plug(0x18, Mcp9808Chip(20))
    (one,) = sensors(driver="mcp9808", bus="simulated").values()
    assert one.read() == 20
    chip = bus.unplug(0x18)
    for words in ("Errno 121", "No I2C device at address: 0x18"):
        with pytest.raises(
            Unavailable, match=f"mcp9808 at 0x18 on the simulated bus does not answer .*{words}"
        ):
            one.read()
    bus.plug(0x18, chip)
    assert one.read() == 20


def test_a_chip_that_lost_its_settings_is_set_up_again(bus):
    bus.plug(0x76, Bme280Chip(20, 50, 1000))
    found = sensors(driver="bme280", bus="simulated", address=0x76)
    read = found["bme280-humidity"].read
    assert read() == pytest.approx(50, abs=0.05)
    bus.unplug(0x76)
    with pytest.raises(Unavailable):
        read()
    bus.plug(0x76, Bme280Chip(20, 60, 1000))  # a fresh chip: all registers at their reset values
    assert read() == pytest.approx(60, abs=0.05)


def test_a_wrong_chip_at_the_address_is_an_error(bus):
    bus.plug(0x77, Mcp9808Chip(20))
    with pytest.raises(Unavailable, match=r"bme280 at 0x77 .*Failed to find BME280"):
        sensors(driver="bme280", bus="simulated")["bme280-temperature"].read()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, r"\[\[sensor\]\] number 2: driver is missing; one of bme280, .*gpio"),
        ({"driver": "bme"}, r"number 2: driver: 'bme' is not one of .*did you mean 'bme280'\?"),
        ({"driver": ["bme280"]}, "number 2: driver: .* is not one of"),
        (
            {"driver": "bme280", "adress": 0x76},
            r"\(driver 'bme280'\): adress: unknown key; did you mean 'address'\?",
        ),
        ({"driver": "bme280", "address": 0x20}, r"address: 0x20 is not one of 0x76 to 0x77"),
        ({"driver": "mcp9808", "every": 0}, "every: "),
        ({"driver": "mcp9808", "bus": "i2c"}, "bus: 'i2c' is not one of"),
        ({"driver": "mcp9808", "name": "Living Room"}, "name: .*try 'living-room'"),
        ({"driver": "ads1115", "gain": 3}, "gain: "),
        ({"driver": "ads1115", "channel": 4}, "channel: "),
        ({"driver": "ds18b20", "address": "29-1"}, "address: "),
        ({"driver": "gpio"}, r"pin: .*(required|missing)"),
        ({"driver": "gpio", "pin": 4, "pull": "left"}, "pull: "),
    ],
)
def test_a_wrong_table_is_named_with_its_key(table, words):
    good = {"driver": "mcp9808", "bus": "simulated"}
    with pytest.raises(BadRequest, match=words):
        hardware.things([good, table])


def test_controls_have_their_own_drivers():
    with pytest.raises(BadRequest, match=r"\[\[control\]\] number 1: driver: 'bme280' is not one of gpio"):
        hardware.things([], [{"driver": "bme280"}])


# -- pins --------------------------------------------------------------------------------------------------------


def test_simulated_pins_are_a_sensor_and_a_control():
    (door, pump) = hardware.things(
        [{"driver": "gpio", "bus": "simulated", "pin": 17, "name": "door", "invert": True}],
        [{"driver": "gpio", "bus": "simulated", "pin": "D18", "name": "pump", "initial": True}],
    )
    assert (door.card.type, door.card.every, door.card.deadband) == ("boolean", 0.1, 0)
    assert door.read() is True
    simulated_pin("D17").value = True
    assert door.read() is False
    assert (pump.card.type, pump.initial) == ("boolean", True)
    pump.apply(True)
    assert simulated_pin("D18").value is True


def test_an_inverted_output_is_driven_low_for_true():
    (pump,) = hardware.things([], [{"driver": "gpio", "bus": "simulated", "pin": 19, "invert": True}])
    pump.apply(True)
    assert simulated_pin("D19").value is False


AGNOSTIC = """
from callboard_nodes import hardware
one, zero, lamp = hardware.things(
    [{"driver": "gpio", "pin": "Dx_INPUT_TRUE", "name": "one"},
     {"driver": "gpio", "pin": "Dx_INPUT_FALSE", "name": "zero", "invert": True}],
    [{"driver": "gpio", "pin": "Dx_OUTPUT", "name": "lamp"}])
lamp.apply(True)
lamp.apply(False)
print(one.read(), zero.read())
"""


def test_pins_go_through_blinkas_digitalio():
    done = run_python(AGNOSTIC, BLINKA_OS_AGNOSTIC="1")
    assert done.stdout.split() == ["True", "True"], done.stderr


def run_python(code, **environment):
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


# -- machines without the hardware -------------------------------------------------------------------------------


def test_a_pc_has_no_bus_and_no_pins_and_says_what_to_do(monkeypatch):
    monkeypatch.setattr(buses, "_buses", {})
    cases = {
        "no I2C bus of its own; use bus = 1": {"driver": "bme280"},
        "there is no /dev/i2c-77; switch I2C on": {"driver": "mcp9808", "bus": 77},
        "has no pin D4": {"driver": "gpio", "pin": 4},
        "switch 1-wire on": {"driver": "ds18b20"},
    }
    for words, table in cases.items():
        with pytest.raises(Unavailable, match=words):
            hardware.things([table])[0].read()


def test_a_pi_whose_bus_is_off_is_told_how_to_switch_it_on():
    code = """
from callboard_nodes import hardware
try:
    hardware.things([{"driver": "mcp9808"}])[0].read()
except Exception as error:
    print(error)
"""
    done = run_python(code, BLINKA_FORCEBOARD="RASPBERRY_PI_4B", BLINKA_FORCECHIP="BCM2XXX")
    assert "switch I2C on (dtparam=i2c_arm=on" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ModuleNotFoundError("No module named 'board'", name="board"),
            r"board is not installed.*callboard\[pi\]",
        ),
        (NotImplementedError("Board not supported None"), "Blinka does not work on this machine"),
        (RuntimeError("Unable to read the device tree"), "Blinka does not work on this machine"),
    ],
)
def test_what_blinka_cannot_do_is_explained(monkeypatch, error, words):
    def fail(_):
        raise error

    monkeypatch.setattr(buses.importlib, "import_module", fail)
    with pytest.raises(Unavailable, match=words):
        buses.blinka("board")
    assert os.environ["BLINKA_SKIP_DEPENDENCY_CHECK"] == "1"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied"), "add this user to the group i2c"),
        (OSError(5, "Input/output error"), "cannot be opened"),
        (ValueError("No device found for /dev/i2c-1"), "there is no /dev/i2c-1"),
    ],
)
def test_a_device_file_that_cannot_be_opened_is_explained(monkeypatch, error, words):
    class Library:
        @staticmethod
        def ExtendedI2C(_):  # noqa: N802
            raise error

    monkeypatch.setattr(buses, "blinka", lambda _: Library)
    monkeypatch.setattr(buses, "_buses", {})
    with pytest.raises(Unavailable, match=words):
        buses.get_bus(1).i2c()


def test_one_bus_has_several_names(monkeypatch):
    monkeypatch.setattr(buses, "_buses", {})
    assert buses.get_bus(1) is buses.get_bus("1") is buses.get_bus("i2c-1") is buses.get_bus("/dev/i2c-1")


def test_a_bus_whose_adapter_was_pulled_out_is_opened_again(monkeypatch):
    opened = []

    class Gone(SimulatedBus):
        def writeto(self, *_, **__):
            raise OSError(errno.ENODEV, "No such device")

    def open_bus():
        opened.append(1)
        return Gone()

    bus = buses.Bus("a bus", open_bus)
    chip = device.on_bus("mcp9808", bus, 0x18, lambda i2c: i2c)
    for _ in range(2):
        with pytest.raises(Unavailable, match="No such device"):
            chip.use(lambda i2c: i2c.writeto(0x18, b""))
    assert len(opened) == 2


def test_a_device_that_cannot_be_opened_is_not_tried_at_every_tick(monkeypatch):
    now, attempts = [0.0], []

    def fail():
        attempts.append(now[0])
        raise OSError(121, "Remote I/O error")

    monkeypatch.setattr(device, "RETRY", 1.0)
    chip = device.Device("it", fail, lock=buses.threading.Lock(), clock=lambda: now[0])
    for tick in range(25):
        now[0] = tick / 10
        with pytest.raises(Unavailable, match="it does not answer"):
            chip.use(lambda opened: opened)
    assert attempts == [0.0, 1.0, 2.0]


# -- 1-wire ------------------------------------------------------------------------------------------------------


def probe(root: Path, name: str, **files: str) -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text)
    return folder


SLAVE = "72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t={}\n"


def test_a_ds18b20_is_read_in_both_forms_the_kernel_offers(tmp_path):
    (one,) = sensors(driver="ds18b20", root=str(tmp_path)).values()
    with pytest.raises(Unavailable, match="no ds18b20 in"):
        one.read()
    probe(tmp_path, "28-0316a2795b1f", temperature="23125\n")
    assert one.read() == 23.125
    probe(tmp_path, "28-0316a2795b1f", temperature="-1250\n")
    assert one.read() == -1.25
    (tmp_path / "28-0316a2795b1f" / "temperature").unlink()
    probe(tmp_path, "28-0316a2795b1f", w1_slave=SLAVE.format("-62"))
    assert one.read() == -0.062


@pytest.mark.parametrize(
    "files", [{"temperature": ""}, {"w1_slave": SLAVE.replace("YES", "NO").format("85000")}]
)
def test_a_garbled_answer_of_a_ds18b20_is_an_error(tmp_path, files):
    probe(tmp_path, "28-0316a2795b1f", **files)
    (one,) = sensors(driver="ds18b20", root=str(tmp_path), address="28-0316a2795b1f").values()
    with pytest.raises(Unavailable, match="ds18b20 28-0316a2795b1f does not answer"):
        one.read()


def test_several_ds18b20_need_an_address(tmp_path):
    for name in ("28-000000000001", "28-000000000002"):
        probe(tmp_path, name, temperature="20000")
    (one,) = sensors(driver="ds18b20", root=str(tmp_path)).values()
    with pytest.raises(Unavailable, match=r"several ds18b20 .*set address"):
        one.read()
    (one,) = sensors(driver="ds18b20", root=str(tmp_path), address="28-000000000002").values()
    assert one.read() == 20.0
