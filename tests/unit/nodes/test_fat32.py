"""Our FAT32: what it writes, mtools reads; what mtools writes, it reads; and a power cut at any write harms nothing."""

import os
import random
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callboard_core.errors import BadRequest, Failed, NotFound, TooLarge
from callboard_nodes.flash.fat32 import Fat32, FileDisk
from callboard_nodes.flash.fat32.names import LONGEST, short_for
from support import fat

pytestmark = fat.needs_fat


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return fat.make(tmp_path_factory.mktemp("fat") / "template")


@pytest.fixture
def image(template, tmp_path):
    return fat.copy(template, tmp_path / "image")


@contextmanager
def opened(path, start=0):
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield Fat32(FileDisk(descriptor, start, durable=False))
    finally:
        os.close(descriptor)


def tree(volume, path=""):
    """All files with their content, and folders, by path."""
    found = {}
    for entry in volume.entries(path):
        here = f"{path}/{entry.name}".lstrip("/")
        found |= {f"{here}/": None} | tree(volume, here) if entry.folder else {here: volume.read(here)}
    return found


FILES = {
    "cmdline.txt": b"root=x\n",
    "LABEL.TXT": b"short as it is",
    "empty": b"",
    "one-cluster": bytes(range(256)) * 2,
    "callboard/wheels/callboard-0.1.0-py3-none-any.whl": os.urandom(100_001),
    "callboard/Grüße 日本.txt": b"unicode",
    "callboard/" + "x" * LONGEST: b"the longest name",
    "dots.in.the.name": b"1",
    "exactly-13-ch": b"a long name that fills its record",
}


def test_what_is_written_is_what_mtools_reads(image):
    with opened(image) as volume:
        volume.write(FILES)
        assert {name: volume.read(name) for name in FILES} == FILES
    fat.assert_clean(image)
    assert fat.listing(image) == {*FILES, "callboard/", "callboard/wheels/"}
    assert {name: fat.get(image, name) for name in FILES} == FILES


def test_characters_beyond_what_mtools_knows(image):
    with opened(image) as volume:
        volume.write({"🍓.txt": b"berry"})
        assert tree(volume) == {"🍓.txt": b"berry"}
    fat.assert_clean(image)


def test_what_mtools_wrote_is_what_is_read(image):
    fat.mtools(image, "mmd", "::/callboard", "::/callboard/wheels")
    for name, data in FILES.items():
        fat.put(image, name, data)
    with opened(image) as volume:
        assert {name: data for name, data in tree(volume).items() if data is not None} == FILES
        assert volume.read("CmdLine.TXT") == b"root=x\n"


def test_a_file_that_is_replaced_keeps_its_short_name_and_its_place(image):
    fat.put(image, "cmdline.txt", b"old" * 1000)
    with opened(image) as volume:
        before = volume.entries()[0]
        volume.write({"cmdline.txt": b"new" * 3000})
        after = volume.entries()[0]
        assert (before.short, before.at, before.name) == (after.short, after.at, after.name)
    assert fat.get(image, "cmdline.txt") == b"new" * 3000
    fat.assert_clean(image)


def test_what_was_replaced_or_removed_leaves_its_room(image):
    with opened(image) as volume:
        volume.write({"a": b"x" * 50_000, "f/b": b"y" * 50_000})
        free = volume.free
        for number in range(5):
            volume.write({"a": bytes([number]) * 50_000})
        assert volume.free == free
        volume.remove("f/b")
        volume.remove("f")
        assert volume.free == free + 50_176 + 512
        assert tree(volume) == {"a": b"\4" * 50_000}
    fat.assert_clean(image)
    assert fat.listing(image) == {"a"}


def test_a_folder_grows_with_its_files(image):
    names = {f"folder/file number {number} with a long name": str(number).encode() for number in range(100)}
    with opened(image) as volume:
        volume.write(names)
    fat.assert_clean(image)
    assert {name: fat.get(image, name) for name in names} == names
    assert fat.listing(image) == {"folder/", *names}


def test_records_of_removed_files_are_used_again(image):
    with opened(image) as volume:
        for number in range(60):
            volume.write({f"f/file-number-{number % 3}-of-three": b"x"})
            volume.remove(f"f/file-number-{number % 3}-of-three")
        free = volume.free
        volume.write({"f/another": b""})
        assert volume.free == free
    fat.assert_clean(image)


def test_garbage_behind_a_folders_end_stays_invisible(image):
    with opened(image) as volume:
        volume.mkdir("f")
        at = volume._layout.cluster_at(volume.entries()[0].first)
        with image.open("r+b") as handle:
            handle.seek(at + 96)
            handle.write(b"GARBAGE TXT" + b"\xaa" * 21 + (b"MORE    TXT" + b"\xaa" * 21) * 11)
        for number in range(20):
            volume.write({f"f/n{number}": b"x"})
            assert set(tree(volume)) == {"f/", *(f"f/n{each}" for each in range(number + 1))}
    fat.assert_clean(image)


def test_names_in_another_case_mean_the_same_file(image):
    with opened(image) as volume:
        volume.write({"Config.txt": b"1"})
        volume.write({"config.TXT": b"2"})
        assert tree(volume) == {"Config.txt": b"2"}
        with pytest.raises(BadRequest, match="case only"):
            volume.write({"a": b"", "A": b""})


def test_a_full_disk_is_told_before_anything_is_written(image):
    with opened(image) as volume:
        volume.write({"small": b"old", "large": bytes(volume.free - 20_000)})
    before = image.read_bytes()
    with opened(image) as volume, pytest.raises(TooLarge, match="KiB are needed and 1"):
        volume.write({"small": b"new", "f/g/much": bytes(30_000)})
    assert image.read_bytes() == before


def test_a_disk_can_be_filled_and_emptied_again(image):
    with opened(image) as volume:
        free = volume.free
        volume.write({"large": b"z" * (free - 4096)})
        assert volume.read("large") == b"z" * (free - 4096)
        with pytest.raises(TooLarge):
            volume.write({"large": b"y" * (free - 4096)})
        volume.remove("large")
        assert volume.free == free
    fat.assert_clean(image)


def test_a_file_lies_well_in_many_pieces(image):
    with opened(image) as volume:
        volume.write({f"{number}": b"x" * 512 for number in range(200)})
        rest = volume.free
        volume.write({"rest": bytes(rest - 512 * 20)})
        for number in range(0, 200, 2):
            volume.remove(f"{number}")
        data = os.urandom(512 * 90)
        volume.write({"pieces": data})
        assert volume.read("pieces") == data
    assert fat.get(image, "pieces") == data
    fat.assert_clean(image)


def test_a_boot_partition_of_the_usual_size_within_an_image(tmp_path):
    image = tmp_path / "image"
    with image.open("wb") as handle:
        handle.truncate(520 * 2**20)
    fat.format_within(image, 8 * 2**20, kib=512 * 1024)
    with opened(image, 8 * 2**20) as volume:
        assert 500 * 2**20 < volume.free < 512 * 2**20
        volume.write(FILES)
    assert fat.get(f"{image}@@8M", "cmdline.txt") == b"root=x\n"


@pytest.mark.parametrize("cluster", [1, 2, 64])
def test_every_size_of_clusters(tmp_path, cluster):
    image = fat.make(tmp_path / "image", kib=34_000 * cluster, cluster=cluster)
    with opened(image) as volume:
        volume.write(FILES)
    assert {name: fat.get(image, name) for name in FILES} == FILES
    fat.assert_clean(image)


@pytest.mark.parametrize("name", ["a/../b", "", "a//b", "con?", "trailing.", "x" * (LONGEST + 1), "nul\0"])
def test_impossible_names_are_refused(image, name):
    with opened(image) as volume, pytest.raises(BadRequest):
        volume.write({"fine": b"x", name: b"x"})
    with opened(image) as volume:
        assert tree(volume) == {}


def test_files_and_folders_are_not_taken_for_each_other(image):
    with opened(image) as volume:
        volume.write({"file": b"", "folder/x": b""})
        with pytest.raises(BadRequest, match="is a folder"):
            volume.write({"folder": b""})
        with pytest.raises(BadRequest, match="is a file"):
            volume.write({"file/x": b""})
        with pytest.raises(BadRequest, match="not empty"):
            volume.remove("folder")
        for path in ("folder", "none", "folder/none", "file/x"):
            with pytest.raises(NotFound):
                volume.read(path)
        with pytest.raises(NotFound):
            volume.entries("file")


def test_other_file_systems_are_told_apart(tmp_path):
    small = tmp_path / "fat16"
    os.system(f"mkfs.vfat -F 16 -C {small} 20000 >/dev/null")
    with pytest.raises(BadRequest, match="FAT12 or FAT16"), opened(small):
        pass
    (tmp_path / "none").write_bytes(bytes(4096))
    with pytest.raises(BadRequest, match="signature"), opened(tmp_path / "none"):
        pass


def test_a_cut_image_and_a_chain_in_a_circle_are_told(image):
    with opened(image) as volume:
        volume.write({"a": bytes(2000)})
        first, table = volume.entries()[0].first, volume._layout.table_at * 512
    with image.open("r+b") as handle:
        handle.seek(table + 4 * first)
        handle.write(first.to_bytes(4, "little"))
    with opened(image) as volume, pytest.raises(Failed, match="damaged"):
        volume.read("a")
    os.truncate(image, 100_000)
    with pytest.raises(Failed, match="ends at byte"), opened(image):
        pass


def test_a_mark_of_being_in_use_that_others_left_stays(image):
    with image.open("r+b") as handle:
        handle.seek(0x41)
        handle.write(b"\1")
    with opened(image) as volume:
        volume.write({"a": b"x"})
    assert "Dirty bit" in fat.check(image)[1]


def test_short_names_are_all_different():
    taken = set()
    for number in range(300):
        short = short_for(f"callboard-{number}.whl", taken)
        assert len(short) == 11
        assert short not in taken
        taken.add(short)


# Power cuts.


OLD = {"cmdline.txt": b"old" * 300, "keep/this": b"kept" * 1000, "callboard/join": b"old code"}
NEW = {
    "cmdline.txt": b"new" * 700,
    "callboard/join": b"new code",
    "callboard/wheels/one-with-a-long-name.whl": b"wheel" * 500,
    "added": b"",
    # So many that the folder has to grow.
    **{f"callboard/another file {number}": b"x" * 600 for number in range(12)},
}


def change(volume):
    volume.write(NEW)
    volume.remove("added")


def assert_old_or_new(path):
    with opened(path) as volume:
        # Where fsck puts what belongs to nobody.
        found = {name: data for name, data in tree(volume).items() if not name.startswith("FSCK")}
    for name, data in found.items():
        assert data in (None, OLD.get(name), NEW.get(name)), f"{name} is half written"
    assert {name: found.get(name) for name in OLD} == {
        name: found.get(name) for name in OLD if found.get(name) in (OLD[name], NEW.get(name))
    }


@pytest.fixture(scope="module")
def recorded(template, tmp_path_factory):
    """An image before, and every sector that a change of it writes."""
    folder = tmp_path_factory.mktemp("cut")
    before = fat.copy(template, folder / "before")
    with opened(before) as volume:
        volume.write(OLD)
    disk = fat.Recorded(fat.copy(before, folder / "after"))
    change(Fat32(disk))
    fat.assert_clean(disk.path)
    return before, disk


def assert_survives(path, scratch):
    """The files are old or new, fsck has to say nothing but what is harmless, and what it repairs is whole."""
    assert_old_or_new(path)
    _, said = fat.check(path)
    assert [line for line in said.splitlines() if not fat.HARMLESS.match(line)] == [], said
    repaired = fat.copy(path, scratch)
    fat.check(repaired, "-a")
    fat.assert_clean(repaired)
    assert_old_or_new(repaired)


def test_a_power_cut_after_any_write_harms_nothing(recorded, tmp_path):
    before, disk = recorded
    path = fat.copy(before, tmp_path / "cut")
    assert len(disk.writes) > 70
    for write in disk.writes:
        fat.apply(path, [write])
        assert_survives(path, tmp_path / "repaired")
    with opened(path) as volume:
        assert {name: data for name, data in tree(volume).items() if data is not None} == {
            name: data for name, data in (OLD | NEW).items() if name != "added"
        }


def test_nor_does_a_disk_that_keeps_no_order_between_barriers(recorded, tmp_path):
    before, disk = recorded
    chance = random.Random(6)
    for _ in range(60):
        path = fat.copy(before, tmp_path / "cut")
        fat.apply(path, disk.torn(chance))
        assert_survives(path, tmp_path / "repaired")


# Anything, in any order, together with mtools.

NAMES = st.sampled_from(
    [
        "a",
        "B.TXT",
        "cmdline.txt",
        "a longer name.text",
        "callboard-0.1.0-py3-none-any.whl",
        "Ünïcode",
        "f/in",
        "f/g/in",
        "f/x" * 30,
    ]
)
SIZES = st.sampled_from([0, 1, 511, 512, 513, 5000, 70_000])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.dictionaries(NAMES, SIZES, min_size=1, max_size=4)),
        st.tuples(st.just("foreign"), NAMES, SIZES),
        st.tuples(st.just("remove"), NAMES),
        st.tuples(st.just("foreign remove"), NAMES),
    ),
    min_size=3,
    max_size=12,
)


def play(step, image, model):
    """Do one step on the image and on a dictionary."""
    action, what, *rest = step
    number = len(model) + 1
    if action == "write":
        files = {name: bytes([number % 251]) * size for name, size in what.items()}
        with opened(image) as volume:
            volume.write(files)
        model |= files
    elif action == "foreign":
        above = what.rpartition("/")[0]
        with opened(image) as volume:
            volume.mkdir(above) if above else None
        data = bytes([number % 251 + 1]) * rest[0]
        fat.put(image, what, data)
        model[what] = data
    elif what in model:
        if action == "remove":
            with opened(image) as volume:
                volume.remove(what)
        else:
            fat.mtools(image, "mdel", f"::/{what}")
        del model[what]


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_whatever_we_and_mtools_do_in_turns_both_see_the_same(template, tmp_path, steps):
    image, model = fat.copy(template, tmp_path / "fuzzed"), {}
    for step in steps:
        play(step, image, model)
    with opened(image) as volume:
        assert {name: data for name, data in tree(volume).items() if data is not None} == model
    assert {name for name in fat.listing(image) if not name.endswith("/")} == set(model)
    assert {name: fat.get(image, name) for name in model} == model
    fat.assert_clean(image)
