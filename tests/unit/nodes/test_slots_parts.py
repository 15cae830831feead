"""Journals, logs, images, inputs, detection, schedules and what is configured."""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import zlib
from datetime import datetime

import pytest
from PIL import Image

from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.errors import BadRequest, Forbidden
from callboard_core.farm.messages import Assignment, Input
from callboard_nodes.slots import exr, images
from callboard_nodes.slots.configured import plans, templates
from callboard_nodes.slots.detect import Detector, parse_version
from callboard_nodes.slots.engines.simulated import png
from callboard_nodes.slots.inputs import InputCache, SharedFolders
from callboard_nodes.slots.journal import Journal, folder_of
from callboard_nodes.slots.log import Log
from callboard_nodes.slots.process import Lines, inherited
from callboard_nodes.slots.schedule import Hours, Moment, Schedule
from callboard_nodes.slots.standing import Standing
from callboard_nodes.slots.teller import Teller
from support.farm import FolderStore

ASSIGNMENT = Assignment(attempt="a-1", job="j", task="t", engine="simulated", frames=[1], lease=30)


def event(what: str = "started", **more):
    return {"what": what, "t": 1.0, **more}


def test_a_journal_is_taken_up_where_it_was_left(tmp_path):
    journal = Journal.create(tmp_path / "a-1", ASSIGNMENT, "slot")
    first = journal.append(event())
    frame = journal.append(event("frame", frame=1, name="f"), file="ready/f")
    ref = ArtifactRef(sha256="0" * 64, size=1, type="image/png", url="/x")
    journal.acknowledge(first.event.seq)
    journal.replace(frame, frame.event.model_copy(update={"artifact": ref}))
    journal.close()
    with (tmp_path / "a-1/journal").open("ab") as file:
        file.write(b'{"event": {"seq": 3, "t"')  # what a power cut leaves
    found = Journal.load(tmp_path / "a-1")
    assert found is not None
    assert (found.slot, found.seq, found.acknowledged, found.ended) == ("slot", 2, 1, False)
    assert [(one.event.seq, one.event.artifact, one.file) for one in found.waiting] == [(2, ref, None)]


def test_nothing_follows_the_end_of_an_attempt(tmp_path):
    journal = Journal.create(tmp_path / "a-1", ASSIGNMENT, "slot")
    journal.append(event("cancelled"))
    journal.append(event("done"))
    assert [one.event.what for one in journal.entries] == ["cancelled"]
    assert journal.ended


@pytest.mark.parametrize("content", [b"", b"{}\n", b"nonsense\n", b'{"slot": 3}\n'])
def test_a_journal_without_a_beginning_is_none(tmp_path, content):
    (tmp_path / "journal").write_bytes(content)
    assert Journal.load(tmp_path) is None


@pytest.mark.parametrize("attempt", ["../x", "a/b", "", ".hidden", "x" * 65])
def test_an_attempt_cannot_be_called_what_would_lead_elsewhere(tmp_path, attempt):
    with pytest.raises(BadRequest):
        folder_of(tmp_path, attempt)


def test_a_log_keeps_the_beginning_and_the_end():
    log = Log(100)
    for number in range(50):
        log.add(f"line {number:03}")
    lines = log.lines()
    assert lines[0] == "line 000"
    assert lines[-1] == "line 049"
    assert lines[5] == "… 40 lines left out …"
    assert [line for piece in log.pieces() for line in piece] == lines


def test_lines_end_at_returns_too_and_endless_ones_are_cut():
    lines = Lines()
    assert lines.feed(b"a\r\nb\rc") == ["a", "b"]
    assert lines.feed(b"d\n") == ["cd"]
    assert len(lines.feed(b"x" * 10_000)[0]) == 8192
    assert lines.end() == []


def test_images_are_decoded_to_the_end(tmp_path):
    file = tmp_path / "f.png"
    file.write_bytes(png(320, 180))
    checked = images.check(file, width=320, height=180)
    assert checked.size == (320, 180)
    assert checked.thumbnail
    with pytest.raises(images.WrongSize, match="320x180"):
        images.check(file, width=320, height=181)
    for spoiled in (png(320, 180)[:-40], b"", b"\x89PNG\r\n\x1a\n"):
        file.write_bytes(spoiled)
        with pytest.raises(images.BadImage):
            images.check(file)


@pytest.mark.parametrize("mode", ["I;16", "L", "RGBA", "LA", "P", "F", "CMYK"])
def test_every_kind_of_image_has_a_thumbnail(mode):
    assert images.thumbnail(Image.new(mode, (1000, 10)))[:2] == b"\xff\xd8"


def make_exr(width: int = 4, height: int = 20, compression: int = 3) -> bytes:
    """A scanline OpenEXR file of one half channel, its chunks stored as zlib would have them."""

    def attribute(name: str, kind: str, data: bytes) -> bytes:
        return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<I", len(data)) + data

    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    channels = b"G\0" + struct.pack("<iB3xii", 1, 0, 1, 1) + b"\0"
    header = b"\x76\x2f\x31\x01" + struct.pack("<I", 2)
    header += attribute("channels", "chlist", channels) + attribute(
        "compression", "compression", bytes([compression])
    )
    header += attribute("dataWindow", "box2i", window) + attribute("displayWindow", "box2i", window) + b"\0"
    lines = 16 if compression == 3 else 1
    chunks = []
    for start in range(0, height, lines):
        data = zlib.compress(b"\0" * (2 * width * min(lines, height - start)))
        chunks.append(struct.pack("<iI", start, len(data)) + data)
    place = len(header) + 8 * len(chunks)
    offsets = b""
    for chunk in chunks:
        offsets += struct.pack("<Q", place)
        place += len(chunk)
    return header + offsets + b"".join(chunks)


def test_openexr_is_checked_chunk_by_chunk(tmp_path):
    file = tmp_path / "f.exr"
    whole = make_exr()
    file.write_bytes(whole)
    assert exr.check(file) == (4, 20)
    assert images.check(file).size == (4, 20)
    for spoiled in (whole[:-3], whole[:40], b"no", whole.replace(b"\x78\x9c", b"\x78\x9d", 1)):
        file.write_bytes(spoiled)
        with pytest.raises(images.BadImage):
            images.check(file)


def stored(store: FolderStore, name: str, data: bytes) -> Input:
    return Input(name=name, artifact=store.put(data))


def test_inputs_are_fetched_once_and_make_room_when_nobody_holds_them(tmp_path):
    store = FolderStore(tmp_path / "store")
    cache = InputCache(tmp_path / "cache", limit=1500)
    one = [stored(store, "scene/a.bin", b"a" * 1000), stored(store, "b.bin", b"b" * 100)]
    first = cache.hold(one, lambda: store, {})
    again = cache.hold(one, lambda: store, {})
    assert first is again
    assert first.files["scene/a.bin"].read_bytes() == b"a" * 1000
    assert len(store.fetched) == 2
    other = cache.hold([stored(store, "c.bin", b"c" * 900)], lambda: store, {})
    assert first.files["b.bin"].exists(), "what is held stays, whatever the limit"
    for tree in (first, again, other):
        cache.release(tree)
    cache.release(cache.hold([stored(store, "d.bin", b"d" * 900)], lambda: store, {}))
    assert sum(path.stat().st_size for path in (tmp_path / "cache/content").glob("*/*")) <= 1500


def test_inputs_are_known_again_after_a_restart_and_read_once(tmp_path):
    store = FolderStore(tmp_path / "store")
    one = [stored(store, "a.bin", b"a" * 1000)]
    for _ in range(2):
        cache = InputCache(tmp_path / "cache", limit=10**6)
        cache.release(cache.hold(one, lambda: store, {}))
    assert len(store.fetched) == 1


def test_shared_folders_have_a_fence(tmp_path):
    inside = tmp_path / "jobs"
    (inside / "deep").mkdir(parents=True)
    shared = SharedFolders((inside,), {"mine": str(inside)})
    assert shared.resolve("{mine}/deep/x", {}) == inside / "deep/x"
    assert shared.resolve("{jobs}/x", {"jobs": {"linux": str(inside)}}) == inside / "x"
    for path in ("/etc/passwd", "{mine}/../x", f"{inside}x/y"):
        with pytest.raises(Forbidden):
            shared.resolve(path, {})
    for path in ("relative/x", "{unknown}/x", "{jobs}/x"):
        with pytest.raises(BadRequest):
            shared.resolve(path, {"jobs": {"windows": "J:"}})


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_a_path_begins_with_what_the_folder_is_called_on_this_system(tmp_path, monkeypatch, system):
    jobs = {"linux": f"{tmp_path}/linux", "darwin": f"{tmp_path}/darwin", "windows": f"{tmp_path}/win32"}
    monkeypatch.setattr(sys, "platform", system)
    found = SharedFolders((tmp_path,)).resolve("{jobs}/a.blend", {"jobs": jobs})
    assert found == tmp_path / system / "a.blend"


@pytest.mark.parametrize(
    ("program", "printed", "version"),
    [
        ("blender", "Blender 3.4.1\n\tbuild date: 2023-01-24\n", "3.4.1"),
        ("blender", "Color management: using fallback mode\nBlender 4.5.1 LTS\n", "4.5.1 LTS"),
        ("povray", "povray: cannot open …\nPOV-Ray 3.7.0.10.unofficial\n", "3.7.0.10"),
        ("ffmpeg", "ffmpeg version 5.1.9-0+deb12u1 Copyright (c) 2000-2026\n", "5.1.9-0+deb12u1"),
        ("blender", "error while loading shared libraries", None),
    ],
)
def test_versions_are_read(program, printed, version):
    assert parse_version(program, printed) == version


def test_a_program_is_asked_once_and_again_when_it_has_changed(tmp_path):
    program, memory = tmp_path / "bin/ffmpeg", tmp_path / "memory.json"
    program.parent.mkdir()

    def install(version: str, stamp: int) -> None:
        program.write_text(
            f"#!/bin/sh\necho asked >> {tmp_path}/log\necho ffmpeg version {version} Copyright\n"
        )
        program.chmod(0o755)
        os.utime(program, (stamp, stamp))

    install("6.0", 1000)
    assert Detector(memory, search=str(program.parent)).known("ffmpeg") is None
    for _ in range(2):
        found = Detector(memory, search=str(program.parent)).find("ffmpeg")
        assert found is not None
        assert found.version == "6.0"
    install("7.0", 2000)
    again = Detector(memory, search=str(program.parent))
    assert again.known("ffmpeg") is None
    changed = again.find("ffmpeg")
    assert changed is not None
    assert changed.version == "7.0"
    assert (tmp_path / "log").read_text() == "asked\n" * 2
    assert not Detector(memory, search=str(tmp_path)).is_there("ffmpeg")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("hours", "moment", "inside"),
    [
        ("22:00-06:00", "2026-11-23T23:30", True),  # a Monday
        ("22:00-06:00", "2026-11-23T05:59", True),
        ("22:00-06:00", "2026-11-23T06:00", False),
        ("mon-fri 18:00-08:00", "2026-11-28T07:00", True),  # Saturday morning belongs to Friday's night
        ("mon-fri 18:00-08:00", "2026-11-28T19:00", False),
        ("sat,sun 00:00-24:00", "2026-11-29T12:00", True),
        ("fri-mon 09:00-10:00", "2026-11-23T09:00", True),
    ],
)
def test_hours_hold_their_moments(hours, moment, inside):
    assert Hours.parse(hours).hold(at(moment)) is inside


@pytest.mark.parametrize(
    "text", ["22-6", "25:00-26:00", "10:75-11:00", "08:00-08:00", "moon 10:00-11:00", ""]
)
def test_hours_that_cannot_be_read_are_refused(text):
    with pytest.raises(ValueError, match=r"hours|leave it out|days"):
        Hours.parse(text)


def test_a_schedule_says_why():
    noon = at("2026-11-23T12:00")
    night = Schedule(hours=(Hours.parse("22:00-06:00"),))
    assert night.judge(Moment(noon)).reason == "works 22:00-06:00 only"
    polite = Schedule(most_load=0.5, idle_minutes=10)
    assert polite.judge(Moment(noon)).may_start, "what cannot be told keeps nobody from working"
    assert polite.judge(Moment(noon, idle=30)).pause
    busy = polite.judge(Moment(noon, load=0.9, idle=900))
    assert (busy.may_start, busy.may_run) == (False, True)
    assert polite.judge(Moment(noon, load=0.2, idle=900)).may_start
    assert "50% busy" in str(polite)
    assert not Schedule()


def test_slots_are_one_for_each_engine_unless_something_else_is_said():
    def there(program: str) -> bool:
        return program in {"blender", "ffmpeg"}

    assert [(one.name, one.engine) for one in plans("auto", [], there)] == [
        ("blender", "blender-persistent"),
        ("ffmpeg", "ffmpeg"),
    ]
    assert [one.name for one in plans("blender=2,simulated=1", [], there)] == [
        "blender-1",
        "blender-2",
        "simulated",
    ]
    assert plans("none", [{"engine": "blender"}], there) == []
    tables = [
        {
            "engine": "blender",
            "name": "gpu",
            "count": 2,
            "threads": 4,
            "tags": ["cuda"],
            "hours": ["22:00-06:00"],
        }
    ]
    first, second = plans("auto", tables, there)
    assert (first.name, second.name, first.tags) == ("gpu-1", "gpu-2", ("cuda",))
    assert first.limits is not None
    assert first.limits.threads == 4
    assert str(first.schedule) == "22:00-06:00"


@pytest.mark.parametrize(
    ("wanted", "tables", "named"),
    [
        ("blendr=2", [], "blendr"),
        ("blender", [], "blender=2"),
        ("blender=2000", [], "1000"),
        ("auto", [{"engine": "blender", "colour": 1}], "colour"),
        ("auto", [{"engine": "maya"}], "maya"),
        ("auto", [{"engine": "blender"}, {"engine": "blender"}], "two called 'blender'"),
        ("auto", [{"engine": "blender", "hours": ["soon"]}], "22:00-06:00"),
    ],
)
def test_slots_that_are_configured_wrongly_are_refused_by_name(wanted, tables, named):
    with pytest.raises(BadRequest, match=named):
        plans(wanted, tables, lambda _: True)


def test_commands_are_read_and_named_once():
    table = {"name": "x", "argv": ["true"]}
    assert list(templates([table])) == ["x"]
    with pytest.raises(BadRequest, match="two called"):
        templates([table, table])
    with pytest.raises(BadRequest, match="argv"):
        templates([{"name": "x"}])


def test_what_is_left_is_guessed_from_the_frames_so_far():
    standing = Standing(total=4)
    assert standing.eta(3.0) is None
    standing.share = 0.5
    assert standing.eta(2.0) == pytest.approx(14.0)
    standing.done, standing.share = 2, 0.5
    standing.seconds.extend([2.0, 4.0])
    assert standing.eta(99.0) == pytest.approx(4.5)
    assert standing.progress == pytest.approx(0.625)


async def test_a_state_is_told_at_once_and_then_at_its_pace_and_the_last_one_always():
    told: list[float] = []
    loop = asyncio.get_running_loop()
    teller = Teller(lambda: told.append(loop.time()))
    for _ in range(5):
        teller.show()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(told) == 1, "what comes in one turn of the loop is one state"
    teller.show(calm=0.2)
    teller.show(calm=0.05)
    await asyncio.sleep(0.3)
    assert len(told) == 2
    assert 0.05 <= told[1] - told[0] < 0.2, "the sooner of the two counts"
    teller.show(now=True)
    teller.close()
    await asyncio.sleep(0.01)
    assert len(told) == 2


def test_renderers_inherit_nothing_that_is_ours():
    env = {"PATH": "/bin", "CALLBOARD_NODE_PASSWORD": "secret", "PYTHONPATH": "/x", "HOME": "/root"}
    assert inherited(env) == {"PATH": "/bin", "HOME": "/root"}


def test_without_pillow_an_image_is_not_taken_for_good(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    file = tmp_path / "f.png"
    file.write_bytes(png(4, 4))
    with pytest.raises(images.NoDecoder, match="pip install"):
        images.check(file)
