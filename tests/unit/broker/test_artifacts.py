"""The store of artifacts: what it takes, what it keeps, what it removes, and what a crash or a bad disk leaves."""

from __future__ import annotations

import errno
import hashlib
import io
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard_broker.errors import Damaged, NoRoom, StoreUnavailable, WrongOffset
from callboard_broker.services.artifacts import Artifacts, Limits
from callboard_broker.services.artifacts import upload as uploads
from callboard_core.errors import BadRequest, Conflict, NotFound, Overloaded, TooLarge

MIB = 1024 * 1024
DAY = 86_400.0


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Artifacts]:
    limits = Limits(largest=8 * MIB, total=10_000, seconds=2 * DAY, min_free=0)
    made = Artifacts(tmp_path / "artifacts", limits, clock).load()
    yield made
    made.close()


def again(store: Artifacts, tmp_path: Path) -> Artifacts:
    store.close()
    return Artifacts(tmp_path / "artifacts", store.limits).load()


def hashed(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_content_is_kept_once_under_its_hash(store, tmp_path):
    ref = store.put(b"hello", type="text/plain")
    assert store.put(io.BytesIO(b"hello"), type="text/html") == ref  # the first type stays
    assert ref.sha256 == hashed(b"hello")
    assert store.path(ref.sha256).relative_to(tmp_path / "artifacts").parts == (ref.sha256[:2], ref.sha256)
    assert store.total() == (1, 5)
    assert store.get(ref) == b"hello"
    with store.open(ref.sha256) as file:
        assert file.read() == b"hello"
    assert store.put(b"").size == 0
    assert b"".join(store.read(hashed(b""))) == b""


def test_everything_is_still_there_after_a_restart(store, tmp_path):
    ref = store.put(b"hello", type="image/png")
    store.pin("job-1", [ref.sha256])
    reopened = again(store, tmp_path)
    assert reopened.ref(ref.sha256) == ref
    with pytest.raises(Conflict, match="job-1"):
        reopened.remove(ref.sha256)
    reopened.close()


def test_what_a_crash_left_is_put_right(store, tmp_path):
    kept, lost = store.put(b"kept"), store.put(b"lost")
    folder = tmp_path / "artifacts"
    store.path(lost.sha256).unlink()
    unnoted = hashed(b"unnoted")
    (folder / unnoted[:2]).mkdir(exist_ok=True)
    (folder / unnoted[:2] / unnoted).write_bytes(b"unnoted")
    (folder / "parts" / "new.1234").write_bytes(b"half")
    (folder / "parts" / hashed(b"half")).write_bytes(b"ha")
    reopened = again(store, tmp_path)
    assert (reopened.has(kept.sha256), reopened.has(lost.sha256), reopened.has(unnoted)) == (
        True,
        False,
        True,
    )
    assert [one.name for one in (folder / "parts").iterdir()] == [hashed(b"half")]
    assert reopened.offset(hashed(b"half")) == 2
    reopened.close()


def test_a_damaged_index_is_made_anew(store, tmp_path):
    ref = store.put(b"hello", type="image/png")
    store.close()
    (tmp_path / "artifacts" / "index.db").write_bytes(b"no database, " * 1000)
    for name in ("index.db-wal", "index.db-shm"):
        (tmp_path / "artifacts" / name).unlink(missing_ok=True)
    reopened = Artifacts(tmp_path / "artifacts", store.limits).load()
    assert reopened.get(ref) == b"hello"
    assert (tmp_path / "artifacts" / "index.damaged").exists()
    reopened.close()


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "artifacts").write_text("a file")
    with pytest.raises(StoreUnavailable, match=str(tmp_path)):
        Artifacts(tmp_path / "artifacts").load()


@pytest.mark.parametrize(
    "name", ["", "..", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65, "0" * 63 + "/", "0" * 64 + "\n"]
)
def test_nothing_but_a_hash_names_a_file(store, name):
    for ask in (store.has, store.path, store.offset, store.begin, store.remove, store.verify, store.record):
        with pytest.raises(BadRequest, match="SHA-256"):
            ask(name)
    with pytest.raises(BadRequest):
        store.pin("x", [name])


def test_what_is_too_large_is_refused_before_and_while_it_comes(store):
    with pytest.raises(TooLarge, match=r"artifacts.limit_mb"):
        store.put(b"x" * (8 * MIB + 1))
    with pytest.raises(TooLarge):
        store.begin("0" * 64, length=8 * MIB + 1)
    upload = store.begin("0" * 64)
    upload.write(b"x" * 8 * MIB)
    with pytest.raises(TooLarge):
        upload.write(b"x")
    upload.cut(discard=True)
    assert store.offset("0" * 64) == 0


class TestRoom:
    """Limits of all artifacts together."""

    def test_the_least_lately_used_makes_room(self, store, clock):
        refs = []
        for letter in (b"a", b"b", b"c"):
            refs.append(store.put(letter * 3000))
            clock.now += 700
        store.get(refs[0])
        clock.now += 700
        store.put(b"d" * 3000)
        assert [store.has(ref.sha256) for ref in refs] == [True, False, True]

    def test_what_was_just_used_or_is_needed_does_not_go(self, store, clock):
        first = store.put(b"a" * 5000)
        store.pin("job", [first.sha256])
        clock.now += 1000
        second = store.put(b"b" * 4000)
        with pytest.raises(NoRoom, match=r"artifacts.keep_mb"):
            store.put(b"c" * 4000)
        assert store.has(first.sha256)
        assert store.has(second.sha256)
        store.unpin("job")
        store.put(b"c" * 4000)
        assert not store.has(first.sha256)

    def test_what_nobody_has_used_for_long_goes(self, store, clock):
        old, needed = store.put(b"old"), store.put(b"needed")
        store.pin("job", [needed.sha256])
        clock.now += 3 * DAY
        new = store.put(b"new")
        assert store.tidy() == 1
        assert [store.has(ref.sha256) for ref in (old, needed, new)] == [False, True, True]
        clock.now += 30
        assert store.tidy() == 0

    def test_what_is_pinned_may_come_later(self, store, clock):
        store.pin("job", [hashed(b"later")])
        ref = store.put(b"later")
        clock.now += 30 * DAY
        assert store.tidy() == 0
        assert store.has(ref.sha256)
        store.remove(ref.sha256, force=True)
        assert not store.has(ref.sha256)

    def test_parts_that_nobody_continues_go(self, store, clock, tmp_path):
        upload = store.begin(hashed(b"ab"))
        upload.write(b"a")
        upload.cut()
        clock.now = (tmp_path / "artifacts" / "parts" / hashed(b"ab")).stat().st_mtime + 3600
        store.tidy()
        assert store.offset(hashed(b"ab")) == 1
        clock.now += 2 * DAY
        store.tidy()
        assert store.offset(hashed(b"ab")) == 0

    def test_a_disk_that_is_nearly_full_takes_nothing_more(self, tmp_path, monkeypatch):
        monkeypatch.setattr("callboard_broker.services.disk.room", lambda path: 1000)
        store = Artifacts(tmp_path / "artifacts", Limits(min_free=900)).load()
        with pytest.raises(NoRoom, match=r"artifacts.min_free_mb"):
            store.put(b"x" * 200)
        assert store.put(b"x" * 50).size == 50
        store.close()

    def test_when_the_disk_is_nearly_full_parts_that_nobody_continues_make_room(
        self, tmp_path, monkeypatch, clock
    ):
        store = Artifacts(tmp_path / "artifacts", Limits(min_free=900), clock).load()
        part = tmp_path / "artifacts" / "parts" / ("0" * 64)
        part.write_bytes(b"x")
        monkeypatch.setattr("callboard_broker.services.disk.room", lambda _: 950 if part.exists() else 2000)
        clock.now = part.stat().st_mtime + 100
        with pytest.raises(NoRoom):
            store.put(b"x" * 200)
        clock.now += 1000
        assert store.put(b"x" * 200).size == 200
        assert not part.exists()
        store.close()

    def test_a_disk_that_is_full_in_the_middle_leaves_nothing_behind(self, store, tmp_path, monkeypatch):
        class Full(io.BytesIO):
            def fileno(self):
                raise OSError(errno.ENOSPC, "No space left on device")

        upload = store.begin(hashed(b"ab"))
        upload.write(b"ab")
        upload._file.close()
        upload._file = Full()
        with pytest.raises(OSError, match="No space"):
            upload.finish()
        assert list((tmp_path / "artifacts" / "parts").iterdir()) == []
        assert store.begin(hashed(b"ab")).size == 0  # and nobody is in the way


class TestUploads:
    """Several pieces, several senders."""

    def test_a_part_is_gone_on_with_where_it_ends(self, store):
        upload = store.begin(hashed(b"abcd"), length=4)
        upload.write(b"ab")
        upload.cut()
        with pytest.raises(WrongOffset) as found:
            store.begin(hashed(b"abcd"), offset=1, length=4)
        assert found.value.offset == 2
        upload = store.begin(hashed(b"abcd"), offset=2, length=4)
        assert not upload.complete
        upload.write(b"cd")
        assert upload.complete
        assert store.get(upload.finish()) == b"abcd"

    def test_a_part_whose_bytes_changed_is_found_out_at_the_end(self, store, tmp_path):
        upload = store.begin(hashed(b"abcd"))
        upload.write(b"ab")
        upload.cut()
        (tmp_path / "artifacts" / "parts" / hashed(b"abcd")).write_bytes(b"aX")
        upload = store.begin(hashed(b"abcd"), offset=2)
        upload.write(b"cd")
        with pytest.raises(BadRequest, match="send it again"):
            upload.finish()
        assert store.offset(hashed(b"abcd")) == 0

    def test_two_who_send_the_same_do_not_disturb_each_other(self, store, tmp_path):
        first, second = store.begin(hashed(b"abcd")), store.begin(hashed(b"abcd"))
        first.write(b"ab")
        assert store.offset(hashed(b"abcd")) == 0  # nobody else is to go on with a part that grows
        with pytest.raises(WrongOffset):
            store.begin(hashed(b"abcd"), offset=2)
        second.write(b"abcd")
        ref = second.finish()
        first.write(b"cd")
        assert first.finish() == ref
        assert store.get(ref) == b"abcd"
        assert list((tmp_path / "artifacts" / "parts").iterdir()) == []

    def test_what_was_cut_goes_when_another_way_has_brought_it_all(self, store, tmp_path):
        cut = store.begin(hashed(b"abcd"))
        cut.write(b"ab")
        cut.cut()
        store.put(b"abcd")
        assert list((tmp_path / "artifacts" / "parts").iterdir()) == []

    def test_of_two_that_are_cut_the_longer_part_stays(self, store):
        first, second = store.begin(hashed(b"abcd")), store.begin(hashed(b"abcd"))
        first.write(b"a")
        second.write(b"abc")
        first.cut()
        second.cut()
        assert store.offset(hashed(b"abcd")) == 3

    def test_a_stalled_upload_is_taken_over(self, store, monkeypatch):
        stalled = store.begin(hashed(b"abcd"))
        stalled.write(b"ab")
        monkeypatch.setattr(uploads, "STALLED", -1.0)
        assert store.offset(hashed(b"abcd")) == 2
        upload = store.begin(hashed(b"abcd"), offset=2)
        with pytest.raises(Conflict, match="somebody else"):
            stalled.write(b"cd")
        upload.write(b"cd")
        assert store.get(upload.finish()) == b"abcd"

    def test_many_at_a_time_leave_one_content_and_no_parts(self, store, tmp_path):
        data = b"0123456789" * 500
        failed = []

        def send() -> None:
            try:
                store.put(data)
                upload = store.begin(hashed(data))
                upload.write(data)
                upload.finish()
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert store.total() == (1, len(data))
        assert list((tmp_path / "artifacts" / "parts").iterdir()) == []

    def test_more_uploads_than_there_is_room_for_are_turned_away(self, store, monkeypatch):
        monkeypatch.setattr("callboard_broker.services.artifacts.intake.UPLOADS", 1)
        store.begin("0" * 64)
        with pytest.raises(Overloaded):
            store.begin("1" * 64)


class TestDamage:
    """What the disk did to the bytes."""

    @pytest.mark.parametrize("size", [10, 3 * MIB])
    def test_a_flipped_bit_is_noticed_before_the_last_block_is_handed_out(self, tmp_path, size):
        store = Artifacts(tmp_path / "artifacts", Limits(min_free=0)).load()
        ref = store.put(b"x" * size)
        file = store.path(ref.sha256)
        file.write_bytes(b"x" * (size - 1) + b"y")
        received = 0
        with pytest.raises(Damaged, match="store it again"):
            for block in store.read(ref.sha256):
                received += len(block)
        assert received < size
        assert not store.has(ref.sha256)
        assert store.damaged == 1
        assert (tmp_path / "artifacts" / "damaged" / ref.sha256).exists()
        store.close()

    def test_a_file_that_is_shorter_or_gone_is_not_there(self, store):
        short, gone = store.put(b"short"), store.put(b"gone")
        store.path(short.sha256).write_bytes(b"s")
        store.path(gone.sha256).unlink()
        assert not store.has(short.sha256)
        with pytest.raises(NotFound):
            store.get(gone)
        assert store.total() == (0, 0)

    def test_verify_finds_all_of_it_and_what_is_pinned_may_be_stored_again(self, store):
        good, bad = store.put(b"good"), store.put(b"bad")
        store.pin("job", [bad.sha256])
        store.path(bad.sha256).write_bytes(b"BAD")
        assert store.verify() == [bad.sha256]
        assert store.verify(good.sha256) == []
        store.put(b"bad")
        with pytest.raises(Conflict):
            store.remove(bad.sha256)


def test_the_index_is_one_that_any_sqlite_reads(store, tmp_path):
    store.put(b"hello", type="text/plain")
    with sqlite3.connect(tmp_path / "artifacts" / "index.db") as db:
        assert db.execute("SELECT sha256, size, type FROM artifacts").fetchall() == [
            (hashed(b"hello"), 5, "text/plain")
        ]
    db.close()
