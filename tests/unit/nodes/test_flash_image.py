"""From an image to a card: unpacked, checked, written with its holes, read back, seeded; or nothing of it."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from callboard_core.boot import CardConfig
from callboard_core.errors import BadRequest, Failed, TooLarge
from callboard_nodes.flash import source
from callboard_nodes.flash.boot import FolderBoot
from callboard_nodes.flash.card import Plan, flash_device, flash_file, flash_folder
from callboard_nodes.flash.facts import read_device
from callboard_nodes.flash.partition import boot_partition
from callboard_nodes.flash.seed import seed
from callboard_nodes.flash.source import check_sum, checksum_beside, find_image
from callboard_nodes.flash.write import copy_stream, verify
from support import cards, fat

pytestmark = fat.needs_fat
CONFIG = CardConfig(id="node-3", buses=["i2c"], join="CB2-SECRET", instance="callboard-1")
WHEELS = {"callboard-0.1.0-py3-none-any.whl": b"ours" * 5000, "pip-25.0-py3-none-any.whl": b"pip" * 3000}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return cards.make(tmp_path_factory.mktemp("card") / "card.img")


@pytest.fixture(scope="module")
def packed(image):
    return cards.pack_xz(image)


def plan(config=CONFIG, wheels=None, **values):
    return Plan(config, lambda _target: WHEELS if wheels is None else wheels, **values)


def inside(folder):
    return [file.name for file in folder.iterdir()]


def outside(path):
    """All of an image but its boot partition."""
    data = Path(path).read_bytes()
    return data[: cards.BOOT_AT] + data[cards.BOOT_AT + cards.BOOT :]


@pytest.mark.parametrize("kind", ["img", "xz", "xz without the program", "zip"])
def test_every_kind_of_image_makes_the_same_card(image, packed, tmp_path, kind, monkeypatch):
    path = {"img": image, "zip": None}.get(kind, packed) or cards.pack_zip(image)
    if "without" in kind:
        monkeypatch.setattr(source.shutil, "which", lambda _program: None)
    out = tmp_path / "out.img"
    target = flash_file(find_image(path), out, plan())
    assert (target.form, target.machine, target.python) == ("cloudinit", "aarch64", "3.13")
    assert outside(out) == outside(image)
    assert out.stat().st_size == cards.SIZE
    assert out.stat().st_blocks * 512 < cards.SIZE / 4
    assert cards.boot(out, "callboard/join") == b"CB2-SECRET\n"
    assert cards.boot(out, "cmdline.txt").endswith(b"resize ds=nocloud;i=callboard-1\n")
    assert cards.boot(out, "kernel8.img") == cards.TRIXIE["kernel8.img"]
    assert {f"callboard/wheels/{name}" for name in WHEELS} <= cards.names(out)
    assert inside(tmp_path) == ["out.img"]
    assert out.stat().st_mode & 0o777 == 0o600


def test_bookworm_is_told_from_trixie(tmp_path):
    image = cards.make(tmp_path / "bookworm.img", cards.BOOKWORM | {"kernel7.img": b""})
    target = flash_file(find_image(image), tmp_path / "out.img", plan())
    assert (target.form, target.machine, target.python) == ("firstrun", "armv7l", "3.11")
    assert b"systemd.run=" in cards.boot(tmp_path / "out.img", "cmdline.txt")
    assert "firstrun.sh" in cards.names(tmp_path / "out.img")


def test_an_image_that_does_not_tell_its_processor_needs_to_be_told(tmp_path):
    files = {name: data for name, data in cards.TRIXIE.items() if name != "kernel8.img"}
    image = find_image(cards.make(tmp_path / "other.img", files))
    with pytest.raises(BadRequest, match="--machine"):
        flash_file(image, tmp_path / "out.img", plan())
    assert flash_file(image, tmp_path / "out.img", plan(machine="x86_64")).machine == "x86_64"


def test_an_image_without_a_boot_partition_makes_no_file(tmp_path):
    (tmp_path / "no.img").write_bytes(bytes(10_000))
    with pytest.raises(BadRequest, match="no partition table"):
        flash_file(find_image(tmp_path / "no.img"), tmp_path / "out.img", plan())
    assert inside(tmp_path) == ["no.img"]


@pytest.mark.parametrize("program", [True, False])
def test_a_cut_archive_makes_no_file(packed, tmp_path, monkeypatch, program):
    cut = tmp_path / "cut.img.xz"
    cut.write_bytes(packed.read_bytes()[:-200_000])
    if not program:
        monkeypatch.setattr(source.shutil, "which", lambda _program: None)
    with pytest.raises((BadRequest, Failed), match="cut or damaged"):
        flash_file(find_image(cut), tmp_path / "out.img", plan())
    assert inside(tmp_path) == ["cut.img.xz"]


def test_an_archive_that_is_damaged_within_makes_no_file(packed, tmp_path):
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 0xFF
    bad = tmp_path / "bad.img.xz"
    bad.write_bytes(data)
    with pytest.raises(Failed, match="cut or damaged"):
        flash_file(find_image(bad), tmp_path / "out.img", plan())
    assert inside(tmp_path) == ["bad.img.xz"]


def test_a_zip_that_is_damaged_within_makes_no_file(image, tmp_path):
    data = bytearray(cards.pack_zip(image).read_bytes())
    name = b"folder/card.img"
    begin = data.index(name) + len(name)
    data[begin : begin + 8] = b"\xff" * 8  # a kind of block that there is not
    bad = tmp_path / "bad.zip"
    bad.write_bytes(data)
    with pytest.raises(Failed, match="cut or damaged"):
        flash_file(find_image(bad), tmp_path / "out.img", plan())
    assert inside(tmp_path) == ["bad.zip"]


@pytest.mark.parametrize(("field", "value"), [(8, 1), (10, 97)], ids=["password", "method"])
def test_a_zip_that_cannot_be_read_is_told_before_it_is(image, tmp_path, field, value):
    data = bytearray(cards.pack_zip(image).read_bytes())
    entry = data.rindex(b"PK\x01\x02")  # in the archive's own list of what it holds
    data[entry + field] = value
    bad = tmp_path / "bad.zip"
    bad.write_bytes(data)
    with pytest.raises(BadRequest, match="has a password, or is packed in an uncommon way; unpack it"):
        find_image(bad)


def test_ctrl_c_leaves_no_half_file_and_no_old_one_damaged(packed, tmp_path):
    out = tmp_path / "out.img"
    out.write_bytes(b"an earlier one")

    def interrupt(stage, done, total):
        if stage == "write":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flash_file(find_image(packed), out, plan(tell=interrupt))
    assert inside(tmp_path) == ["out.img"]
    assert out.read_bytes() == b"an earlier one"


def test_a_full_boot_partition_makes_no_file(image, tmp_path):
    with pytest.raises(TooLarge, match="boot partition is full"):
        flash_file(find_image(image), tmp_path / "out.img", plan(wheels={"big.whl": bytes(40 * cards.MIB)}))
    assert inside(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "content"), [("a.iso", b""), ("a.xz", b"no archive"), ("a.zip", b"PK no archive")]
)
def test_what_is_no_image_is_told(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadRequest):
        find_image(tmp_path / name)
    with pytest.raises(BadRequest, match="there is no image"):
        find_image(tmp_path / "missing.img")


def test_a_sum_is_checked_where_it_is_given(packed, tmp_path):
    right = hashlib.sha256(packed.read_bytes()).hexdigest()
    image = find_image(packed)
    check_sum(image, right.upper())
    with pytest.raises(BadRequest, match="download it again"):
        check_sum(image, "0" * 64)
    with pytest.raises(BadRequest, match="64 hexadecimal"):
        check_sum(image, right[:-1])


def test_a_sum_beside_the_image_is_found(tmp_path):
    image = tmp_path / "a.img"
    assert checksum_beside(image) is None
    (tmp_path / "a.img.sha256").write_text(f"{'AB' * 32}  a.img\n")
    assert checksum_beside(image) == "ab" * 32
    (tmp_path / "a.img.sha256").write_text("<html>")
    with pytest.raises(BadRequest, match="no SHA-256"):
        checksum_beside(image)


def test_a_byte_that_changed_is_found_when_reading_back(image, tmp_path):
    out = tmp_path / "out"
    with image.open("rb", buffering=0) as stream, out.open("w+b") as handle:
        written = copy_stream(stream, handle.fileno())
    verify(out, written)
    assert out.read_bytes() == image.read_bytes()
    with out.open("r+b") as handle:
        handle.seek(cards.BOOT_AT + cards.BOOT + cards.MIB + 77)
        handle.write(b"\0\0")
    with pytest.raises(Failed, match="does not read back"):
        verify(out, written)


# A boot partition that is mounted somewhere.


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "bootfs"
    folder.mkdir()
    for name, data in cards.TRIXIE.items():
        (folder / name).write_bytes(data)
    return folder


def content(folder):
    return {
        file.relative_to(folder).as_posix(): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_seeding_a_mounted_card_again_writes_nothing(folder):
    flash_folder(folder, plan())
    once = content(folder)
    assert {name for name in once if name.startswith("callboard/wheels/")} == {
        f"callboard/wheels/{name}" for name in WHEELS
    }
    flash_folder(folder, plan())
    assert content(folder) == once


def test_a_card_for_another_node_keeps_nothing_of_the_first(folder):
    flash_folder(folder, plan())
    flash_folder(folder, plan(CardConfig(id="node-4", fetch=True), {"other.whl": b"x"}))
    found = content(folder)
    assert not any(b"CB2-SECRET" in data or b"node-3" in data for data, _ in found.values())
    assert [name for name in found if name.startswith("callboard/wheels/")] == ["callboard/wheels/other.whl"]
    assert found["cmdline.txt"][0].count(b"ds=nocloud") == 1
    assert b"i2c" not in found["config.txt"][0]


def test_what_the_system_looks_for_first_is_written_last(folder):
    order = []

    class Boot(FolderBoot):
        def write(self, files):
            order.append(set(files))
            super().write(files)

    seed(Boot(folder), CONFIG, "cloudinit", WHEELS)
    assert [name.partition("/")[0] for name in order[0]] == ["callboard"] * len(order[0])
    assert {"user-data", "meta-data", "network-config", "config.txt"} == order[1]
    assert order[2:] == [{"cmdline.txt"}]


def test_what_names_the_files_of_a_mounted_card_is_on_the_disk_before_what_looks_for_them(
    folder, monkeypatch
):
    synced = []
    real = os.fsync

    def fsync(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    flash_folder(folder, plan())
    last = {path: number for number, path in enumerate(synced)}
    first_look = next(number for number, path in enumerate(synced) if path.name == "user-data.new")
    assert last[folder / "callboard"] < first_look
    assert last[folder / "callboard" / "wheels"] < first_look
    assert synced[-1] == folder


def test_a_file_is_no_folder(tmp_path):
    with pytest.raises(BadRequest, match="is not a folder"):
        flash_folder(tmp_path / "none", plan())


# A real device, of a file.


@pytest.fixture
def loop(tmp_path):
    file = tmp_path / "disk"
    file.write_bytes(os.urandom(cards.MIB) * 50)
    done = subprocess.run(
        ["losetup", "--find", "--show", str(file)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no loop devices here: {done.stderr.strip()}")
    yield Path(done.stdout.strip())
    subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


def test_a_device_is_overwritten_and_its_first_block_comes_last(image, packed, loop, tmp_path):
    firsts = {}

    def tell(stage, done, total):
        firsts[stage] = loop.read_bytes()[:512]

    flash_device(find_image(packed), loop, read_device(loop.name), plan(tell=tell))
    assert firsts.keys() == {"write", "flush", "verify", "seed"}
    assert set(firsts.values()) == {bytes(512)}
    copied = tmp_path / "copy"
    shutil.copyfile(loop, copied)
    os.truncate(copied, cards.SIZE)
    assert outside(copied) == outside(image)
    assert cards.boot(copied, "callboard/join") == b"CB2-SECRET\n"
    boot_partition(copied.read_bytes()[:512])


def test_a_device_that_was_interrupted_does_not_boot(packed, loop):
    def interrupt(stage, done, total):
        if stage == "seed":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flash_device(find_image(packed), loop, read_device(loop.name), plan(tell=interrupt))
    with pytest.raises(BadRequest, match="no partition table"):
        boot_partition(loop.read_bytes()[:512])


def test_a_device_that_is_too_small_stays_as_it_is(packed, loop):
    before = loop.read_bytes()
    small = source.Image(packed, "xz", 60 * cards.MIB)
    with pytest.raises(TooLarge, match="larger card"):
        flash_device(small, loop, read_device(loop.name), plan())
    assert loop.read_bytes() == before
