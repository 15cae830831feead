"""Which devices may be overwritten, decided over a made-up /sys and /proc; and the refusals while one is opened."""

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest

from callboard_core.errors import BadRequest, Conflict, Forbidden
from callboard_nodes.flash.device import overwriting
from callboard_nodes.flash.facts import Device, Machine, read_device, read_machine
from callboard_nodes.flash.safety import check_confirmation, check_safe, check_same, objections

CARD = Device(
    name="sdb",
    number="8:16",
    size=32 * 2**30,
    removable=True,
    bus="usb",
    model="Generic STORAGE DEVICE",
    serial="0123",
    read_only=False,
    parts=(("sdb1", "8:17"), ("sdb2", "8:18")),
)
BELOW = {
    "sda": (),
    "sda1": ("sda",),
    "sda2": ("sda",),
    "sdb": (),
    "sdb1": ("sdb",),
    "sdb2": ("sdb",),
    "dm-0": ("sda2",),
    "dm-1": ("dm-0",),
}
IDLE = Machine(
    mounts=(("sda1", "/"), ("sda2", "/home"), ("0:22", "/proc")), swaps=("dm-1", "/swapfile"), below=BELOW
)


def changed(device=CARD, **values):
    return dataclasses.replace(device, **values)


def against(device, machine=IDLE):
    return "; ".join(objections(device, machine))


def test_a_card_in_a_reader_may_be_overwritten():
    check_safe(CARD, IDLE)
    check_safe(changed(name="mmcblk0", removable=False, bus="mmc", parts=()), IDLE)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"removable": False, "bus": ""}, "not removable"),
        ({"removable": False, "bus": "sata"}, "not removable"),
        ({"name": "loop3"}, "no card"),
        ({"name": "dm-4"}, "no card"),
        ({"name": "mmcblk0boot0", "bus": "mmc"}, "firmware"),
        ({"read_only": True}, "read-only"),
        ({"size": 0}, "no card in it"),
        ({"size": 3 * 2**40}, "no card is that large"),
        ({"holders": ("md0",)}, "md0 is made of it"),
    ],
)
def test_other_disks_may_not(values, reason):
    device = changed(**values)
    assert reason in against(device)
    with pytest.raises(Forbidden, match="is not overwritten"):
        check_safe(device, IDLE)


@pytest.mark.parametrize("place", ["/", "/boot", "/boot/firmware", "/home", "/media/ann/bootfs"])
@pytest.mark.parametrize("name", ["sdb", "sdb2", "8:16"])
def test_a_disk_of_which_anything_is_mounted_may_not(place, name):
    machine = dataclasses.replace(IDLE, mounts=(*IDLE.mounts, (name, place)))
    assert f"mounted on {place}" in against(CARD, machine)


def test_a_disk_with_swap_may_not():
    assert "swaps to sdb1" in against(CARD, dataclasses.replace(IDLE, swaps=("sdb1",)))


def test_a_disk_below_encryption_and_volumes_may_not():
    below = {**BELOW, "dm-0": ("sdb2",)}
    assert "swaps to dm-1" in against(CARD, dataclasses.replace(IDLE, below=below))
    machine = dataclasses.replace(IDLE, below=below, mounts=(("dm-1", "/srv"),), swaps=())
    assert "dm-1 is mounted on /srv" in against(CARD, machine)


# Reading the facts.


@pytest.fixture
def root(tmp_path):
    """A machine with a disk (encrypted home, btrfs root) and a card in a reader."""
    files = {
        "sys/devices/pci0/ata1/block/sda/dev": "8:0",
        "sys/devices/pci0/ata1/block/sda/size": "1000215216",
        "sys/devices/pci0/ata1/block/sda/removable": "0",
        "sys/devices/pci0/ata1/block/sda/ro": "0",
        "sys/devices/pci0/ata1/block/sda/sda1/dev": "8:1",
        "sys/devices/pci0/ata1/block/sda/sda1/partition": "1",
        "sys/devices/pci0/ata1/block/sda/sda2/dev": "8:2",
        "sys/devices/pci0/ata1/block/sda/sda2/partition": "2",
        "sys/devices/pci0/ata1/block/sda/sda2/holders/dm-0/x": "",
        "sys/devices/virtual/block/dm-0/dev": "253:0",
        "sys/devices/virtual/block/dm-0/size": "1000",
        "sys/devices/virtual/block/dm-0/slaves/sda2/x": "",
        "sys/devices/pci0/usb2/2-1/idVendor": "0bda",
        "sys/devices/pci0/usb2/2-1/serial": "2012",
        "sys/devices/pci0/usb2/2-1/host6/block/sdb/dev": "8:16",
        "sys/devices/pci0/usb2/2-1/host6/block/sdb/size": "62333952",
        "sys/devices/pci0/usb2/2-1/host6/block/sdb/removable": "1",
        "sys/devices/pci0/usb2/2-1/host6/block/sdb/ro": "1",
        "sys/devices/pci0/usb2/2-1/host6/block/sdb/device/vendor": "Generic-",
        "sys/devices/pci0/usb2/2-1/host6/block/sdb/device/model": "SD/MMC ",
        "sys/devices/pci0/usb2/2-1/host6/block/sdb/sdb1/dev": "8:17",
        "sys/devices/pci0/usb2/2-1/host6/block/sdb/sdb1/partition": "1",
        "sys/devices/pci0/mmc_host/mmc0/mmc0:1/block/mmcblk0/dev": "179:0",
        "sys/devices/pci0/mmc_host/mmc0/mmc0:1/block/mmcblk0/size": "100",
        "sys/devices/pci0/mmc_host/mmc0/mmc0:1/block/mmcblk0/device/serial": "0xabcd",
        "proc/self/mountinfo": (
            "22 1 0:21 / / rw,relatime shared:1 - btrfs /dev/sda1 rw\n"
            "23 22 253:0 / /home rw - ext4 /dev/mapper/home rw\n"
            "24 22 8:17 / /media/ann/my\\040card rw - vfat /dev/sdb1 rw\n"
            "25 22 0:5 / /dev rw - devtmpfs udev rw\n"
        ),
        "proc/swaps": "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n/swap\\040file file 1 0 -3\n",
    }
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n" if text else "")
    block = tmp_path / "sys/block"
    block.mkdir()
    for folder in (tmp_path / "sys/devices").rglob("block/*"):
        (block / folder.name).symlink_to(folder)
    (tmp_path / "dev/mapper").mkdir(parents=True)
    (tmp_path / "dev/dm-0").touch()
    (tmp_path / "dev/mapper/home").symlink_to("../dm-0")
    return tmp_path


def test_a_card_in_a_reader_is_described(root):
    assert read_device("sdb", root) == Device(
        name="sdb",
        number="8:16",
        size=62333952 * 512,
        removable=True,
        bus="usb",
        model="Generic- SD/MMC",
        serial="2012",
        read_only=True,
        parts=(("sdb1", "8:17"),),
    )


def test_a_card_in_a_slot_is_described(root):
    found = read_device("mmcblk0", root)
    assert (found.bus, found.serial, found.removable) == ("mmc", "0xabcd", False)


def test_what_is_made_of_a_disk_is_found(root):
    assert read_device("sda", root).holders == ("dm-0",)


def test_partitions_and_what_is_gone_are_no_disks(root):
    assert read_device("sda1", root) is None
    assert read_device("sdz", root) is None


def test_what_the_machine_uses_is_found(root):
    machine = read_machine(root)
    assert {("sda1", "/"), ("dm-0", "/home"), ("sdb1", "/media/ann/my card")} <= set(machine.mounts)
    assert machine.swaps == ("sda2", "/swap\\040file")
    assert "sda1 is mounted on /" in against(read_device("sda", root), machine)
    assert "dm-0 is mounted on /home" in against(read_device("sda", root), machine)
    assert "mounted on /media/ann/my card" in against(read_device("sdb", root), machine)
    assert against(read_device("mmcblk0", root), machine) == ""


def test_this_machines_own_disks_are_all_refused():
    machine = read_machine()
    used = {name for name, _ in machine.mounts}
    used |= {disk for name in used for disk in machine.below.get(name, ())}
    for name in used & {folder.name for folder in Path("/sys/block").iterdir()}:
        assert "is mounted on" in against(read_device(name), machine)


# Confirming, and opening.


def test_another_device_by_the_same_name_is_noticed():
    check_same(CARD, changed(parts=()))
    for values in ({"size": 1}, {"serial": "9"}, {"model": "other"}, {"number": "8:32"}):
        with pytest.raises(Conflict, match=f"another {next(iter(values))}"):
            check_same(CARD, changed(**values))
    with pytest.raises(Conflict, match="gone"):
        check_same(CARD, None)


@pytest.mark.parametrize(
    ("serial", "typed"), [("0123", None), (None, "sdb"), (None, "/dev/sdb"), ("0123", "sdb")]
)
def test_who_knows_the_serial_number_or_types_the_name_may_go_on(serial, typed):
    check_confirmation(CARD, serial=serial, typed=typed)


@pytest.mark.parametrize(
    ("serial", "typed"),
    [(None, None), ("", None), ("9", None), ("9", "sdb"), (None, "sda"), (None, "y"), (None, "")],
)
def test_nobody_else_may(serial, typed):
    with pytest.raises(BadRequest):
        check_confirmation(CARD, serial=serial, typed=typed)


def test_a_device_without_a_serial_number_needs_its_name_typed():
    with pytest.raises(BadRequest):
        check_confirmation(changed(serial=""), serial="", typed=None)


def test_a_file_is_no_device(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(4096))
    with pytest.raises(BadRequest, match="not a device"), overwriting(file, CARD, lambda _name: CARD):
        pass


def test_what_was_exchanged_before_opening_is_not_touched(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"precious")
    with pytest.raises(Conflict), overwriting(file, CARD, lambda _name: changed(serial="9")):
        pass
    assert file.read_bytes() == b"precious"


@pytest.fixture
def loop(tmp_path):
    """A real block device, of a file."""
    file = tmp_path / "disk"
    with file.open("wb") as handle:
        handle.truncate(600 * 2**20)
    done = subprocess.run(
        ["losetup", "--find", "--show", str(file)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no loop devices here: {done.stderr.strip()}")
    yield done.stdout.strip()
    subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


def test_a_real_device_opens_only_as_what_it_was(loop):
    device = read_device(loop.removeprefix("/dev/"))
    assert device.size == 600 * 2**20
    with overwriting(Path(loop), device) as descriptor:
        os.pwrite(descriptor, b"x" * 512, 0)
    assert Path(loop).read_bytes()[:512] == b"x" * 512
    with pytest.raises(Conflict), overwriting(Path(loop), dataclasses.replace(device, size=1)):
        pass
    with pytest.raises(Conflict, match="not the device"):
        wrong = dataclasses.replace(device, number="8:1")
        with overwriting(Path(loop), wrong, lambda _name: wrong):
            pass
