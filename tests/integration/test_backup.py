"""Backups of real state folders and databases, into either kind of database, and such as were tampered with."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import stat
import threading
import tomllib
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import func, insert, select

from callboard_broker.access import Users, ensure_first_users, users_file
from callboard_broker.backup import back_up, restore, restoring
from callboard_broker.backup.making import as_toml, in_force
from callboard_broker.backup.manifest import DATABASE, FORMAT, MANIFEST
from callboard_broker.errors import BadBackup, NewerDatabase, NoRoom
from callboard_broker.services.artifacts import Artifacts
from callboard_broker.store.database import Database
from callboard_broker.store.farm_models import Base, JobRow
from callboard_broker.store.migrate import HEAD
from callboard_broker.store.models import ReadingRow, StatusRow, Word
from callboard_core.errors import Conflict, NotFound
from callboard_core.runtime import hold_state
from callboard_core.settings import Settings
from support.databases import KINDS, database_url
from support.postgres import postgres

__all__ = ["database_url", "postgres"]

READINGS = [{"series": 1, "t": t, "value": t / 10} for t in range(5_000)]


def rows(url: str) -> dict[str, int]:
    database = Database(url)
    try:
        with database.read() as connection:
            return {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in Base.metadata.sorted_tables
            }
    finally:
        database.close()


def fill(url: str) -> None:
    database = Database(url)
    database.open()
    with database.write() as connection:
        connection.execute(insert(ReadingRow), READINGS)
        connection.execute(insert(Word), [{"text": "°C"}, {"text": "ön"}])
        connection.execute(insert(StatusRow), [{"node": "pi", "t": 1.5, "status": "ready", "epoch": 2**40}])
        job = {"id": 7, "state": "done", "document": "{}", "spec": '{"a": "\\u0000"}'}
        connection.execute(insert(JobRow), [job])
    database.close()


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """A state folder with one of everything."""
    state = tmp_path / "old"
    ensure_first_users(state)
    settings = Settings(state=state, database={"url": database_url}, site="attic", http={"port": 4711})
    fill(database_url)
    (state / "trust").mkdir()
    (state / "trust" / "ca.key").write_text("secret")
    (state / "broker").mkdir()
    (state / "broker" / "journal-00000003.log").write_bytes(b"old")
    (state / "broker" / "journal-00000004.log").write_bytes(b"new")
    (state / "log").mkdir()
    (state / "log" / "board.log").write_text("noise")
    (state / "outside").symlink_to("/etc/passwd")
    store = Artifacts(state / "artifacts").load()
    store.put(b"picture", type="image/png")
    store.close()
    return settings


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("into", KINDS)
def test_a_backup_of_either_database_is_restored_into_either(
    settings: Settings, tmp_path: Path, into: str, request: pytest.FixtureRequest
):
    file, state = tmp_path / "backup.zip", tmp_path / "new"
    told: list[tuple[int, int]] = []
    made = back_up(settings, file, progress=lambda *done: told.append(done))
    assert (made.site, made.revision, made.callboard != "") == ("attic", HEAD, True)
    assert told[-1][0] == made.size
    target = "" if into == "sqlite" else str(request.getfixturevalue("postgres").new_database())
    done = restore(file, state, database=target)
    url = target or f"sqlite:///{state}/board.db"
    assert rows(url) == rows(settings.database.url)
    database = Database(url)
    with database.write() as connection:
        found = connection.execute(select(ReadingRow.t, ReadingRow.value).order_by(ReadingRow.t)).all()
        assert found == [(row["t"], row["value"]) for row in READINGS]
        # Whoever comes next gets a number of his own.
        connection.execute(insert(StatusRow), [{"node": "pi", "t": 2.0, "status": "lost", "epoch": 1}])
    database.close()
    assert (state / "board.db").exists() is (into == "sqlite")
    assert tomllib.loads(done.settings.read_text()).get("database", {}).get("url", "") == target


def test_everything_a_board_is_made_of_comes_back_private(settings: Settings, tmp_path: Path):
    file, state = tmp_path / "backup.zip", tmp_path / "deep" / "new"
    back_up(settings, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == ["backup.zip"]
    done = restore(file, state)
    before, after = everything(settings.state), everything(state)
    for name in ("users.json", "trust/ca.key", "credentials/admin.password", "broker/journal-00000004.log"):
        assert after[name] == before[name]
    assert not {"log/board.log", "broker/journal-00000003.log", "outside", "runtime.json"} & after.keys()
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.rglob("*") if path.is_dir()} == {0o700}
    private = [path for path in state.rglob("*") if path.is_file() and path.name != "up.lock"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert tomllib.loads(done.settings.read_text())["site"] == "attic"
    store = Artifacts(state / "artifacts").load()
    [record] = [store.find(hashlib.sha256(b"picture").hexdigest())]
    store.close()
    assert record is not None
    assert record.type == "image/png"
    assert Users(users_file(state)).verify("admin", after["credentials/admin.password"].decode().strip())


def test_artifacts_are_left_out_when_asked(settings: Settings, tmp_path: Path):
    file = tmp_path / "backup.zip"
    made = back_up(settings, file, artifacts=False)
    assert not [part.name for part in made.parts if "artifacts" in part.name]
    restore(file, tmp_path / "new")
    assert not (tmp_path / "new" / "artifacts").exists()


def test_a_backup_is_consistent_while_others_write(settings: Settings, tmp_path: Path):
    """Every transaction writes one status and one word: a backup must never hold one without the other."""
    stop = threading.Event()
    database = Database(settings.database.url)
    began = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with database.write() as connection:
                connection.execute(insert(Word), [{"text": f"word {number}"}])
                row = {"node": "pi", "t": float(number), "status": f"word {number}", "epoch": 1}
                connection.execute(insert(StatusRow), [row])
            if number > 20:
                began.set()

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for number in range(3):
            assert began.wait(60)
            back_up(settings, tmp_path / f"{number}.zip")
    finally:
        stop.set()
        writing.join()
        database.close()
    for number in range(3):
        restore(tmp_path / f"{number}.zip", tmp_path / f"new-{number}")
        found = rows(f"sqlite:///{tmp_path}/new-{number}/board.db")
        assert found["words"] - 2 == found["statuses"] - 1 > 20


def test_a_file_that_is_there_is_only_replaced_when_asked(settings: Settings, tmp_path: Path):
    file = tmp_path / "backup.zip"
    file.write_text("mine")
    with pytest.raises(Conflict, match="--yes"):
        back_up(settings, file)
    assert file.read_text() == "mine"
    back_up(settings, file, replace=True)
    assert zipfile.is_zipfile(file)


def test_without_a_board_there_is_nothing_to_back_up(tmp_path: Path):
    with pytest.raises(NotFound, match="--state"):
        back_up(Settings(state=tmp_path / "none"), tmp_path / "backup.zip")
    assert not (tmp_path / "backup.zip").exists()


def test_settings_of_the_last_run_are_the_ones_that_count(tmp_path: Path):
    ran = Settings(state=tmp_path, mqtt={"port": 4711}, sensors=[{"name": "t"}], node={"id": "hall"})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_text(ran.model_dump_json())
    found = tomllib.loads(as_toml(in_force(Settings(state=tmp_path))))
    assert found == {"mqtt": {"port": 4711}, "node": {"id": "hall"}, "sensor": [{"name": "t"}]}


def test_a_board_in_the_default_folder_is_backed_up_too(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CALLBOARD_STATE", str(settings.state))
    back_up(Settings(database=settings.database), tmp_path / "backup.zip")
    restore(tmp_path / "backup.zip", tmp_path / "new")
    assert (tmp_path / "new" / "users.json").read_bytes() == (settings.state / "users.json").read_bytes()


def test_a_folder_that_is_not_empty_is_put_aside_only_when_asked(settings: Settings, tmp_path: Path):
    file, state = tmp_path / "backup.zip", tmp_path / "new"
    back_up(settings, file)
    state.mkdir()
    (state / "users.json").write_text("{}")
    with pytest.raises(Conflict, match="not empty"):
        restore(file, state)
    assert everything(state) == {"users.json": b"{}", "up.lock": everything(state)["up.lock"]}
    done = restore(file, state, replace=True)
    assert done.before is not None
    assert (done.before / "users.json").read_text() == "{}"
    assert (state / "users.json").read_bytes() == (settings.state / "users.json").read_bytes()


def test_a_folder_on_which_a_board_runs_is_left_alone(settings: Settings, tmp_path: Path):
    file, state = tmp_path / "backup.zip", tmp_path / "new"
    back_up(settings, file)
    state.mkdir()
    with hold_state(state), pytest.raises(Conflict, match="already runs"):
        restore(file, state)
    assert [path.name for path in state.iterdir()] == ["up.lock"]


def test_rows_of_another_database_are_replaced_only_when_asked(settings: Settings, tmp_path: Path):
    file, other = tmp_path / "backup.zip", f"sqlite:///{tmp_path}/other.db"
    back_up(settings, file)
    fill(other)
    with pytest.raises(Conflict, match="holds data"):
        restore(file, tmp_path / "new", database=other)
    assert everything(tmp_path / "new").keys() == {"up.lock"}
    restore(file, tmp_path / "new", database=other, replace=True)
    assert rows(other) == rows(settings.database.url)


# --- backups that are not what they should be


def altered(file: Path, change: Callable[[dict[str, bytes], dict], None]) -> Path:
    """A copy of a backup with other members and another manifest."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop(MANIFEST))
    change(members, manifest)
    target = file.with_name("altered.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(MANIFEST, json.dumps(manifest))
    return target


def add(members: dict[str, bytes], manifest: dict, name: str, content: bytes) -> None:
    """Add or replace a part, honestly noted."""
    members[name] = content
    part = {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["parts"] = [one for one in manifest["parts"] if one["name"] != name] + [part]


def traversal(members: dict[str, bytes], manifest: dict) -> None:
    add(members, manifest, "state/../../escaped", b"x")


def absolute(members: dict[str, bytes], manifest: dict) -> None:
    add(members, manifest, "/tmp/escaped", b"x")


def hidden_member(members: dict[str, bytes], manifest: dict) -> None:
    members["state/extra"] = b"x"


def missing_member(members: dict[str, bytes], manifest: dict) -> None:
    del members["state/users.json"]


def flipped_byte(members: dict[str, bytes], manifest: dict) -> None:
    members["state/trust/ca.key"] = b"secreT"


def wrong_size(members: dict[str, bytes], manifest: dict) -> None:
    manifest["parts"][0]["size"] += 1


def no_database(members: dict[str, bytes], manifest: dict) -> None:
    del members[DATABASE]
    manifest["parts"] = [part for part in manifest["parts"] if part["name"] != DATABASE]


def no_sqlite(members: dict[str, bytes], manifest: dict) -> None:
    add(members, manifest, DATABASE, b"SQLite format 3\0" + b"x" * 5000)


def torn_sqlite(members: dict[str, bytes], manifest: dict) -> None:
    data = bytearray(members[DATABASE])
    data[8192:20_480] = b"\xff" * (20_480 - 8192)
    add(members, manifest, DATABASE, bytes(data))


def trigger(members: dict[str, bytes], manifest: dict) -> None:
    database = sqlite3.connect(":memory:")
    with closing(database):
        database.deserialize(members[DATABASE])
        database.execute("CREATE TRIGGER evil AFTER INSERT ON words BEGIN DELETE FROM readings; END")
        database.commit()
        add(members, manifest, DATABASE, database.serialize())


def bad_settings(members: dict[str, bytes], manifest: dict) -> None:
    add(members, manifest, "callboard.toml", b"[[[")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "change",
    [
        traversal,
        absolute,
        hidden_member,
        missing_member,
        flipped_byte,
        wrong_size,
        no_database,
        no_sqlite,
        torn_sqlite,
        trigger,
        bad_settings,
    ],
    ids=lambda change: change.__name__,
)
def test_a_backup_that_was_tampered_with_is_refused_and_nothing_is_touched(
    settings: Settings, tmp_path: Path, change: Callable[[dict[str, bytes], dict], None]
):
    file, state = tmp_path / "backup.zip", tmp_path / "new"
    back_up(settings, file)
    state.mkdir()
    (state / "mine").write_text("mine")
    before = {path for path in tmp_path.parent.rglob("*") if state not in path.parents}
    with pytest.raises(BadBackup):
        restore(altered(file, change), state, replace=True)
    assert {path.name for path in state.rglob("*")} - {"up.lock"} == {"mine"}
    after = {path for path in tmp_path.parent.rglob("*") if state not in path.parents}
    assert after - before == {tmp_path / "altered.zip"}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_zip_bomb_is_refused_before_it_unfolds(settings: Settings, tmp_path: Path):
    """A member of 70 MB that calls itself 3 bytes long in the directory and the manifest."""
    file, state = tmp_path / "backup.zip", tmp_path / "new"
    back_up(settings, file)
    size = 0x4_2B_3C_4D

    def bomb(members: dict[str, bytes], manifest: dict) -> None:
        add(members, manifest, "state/bomb", b"x" * size)
        manifest["parts"][-1] |= {"size": 3}

    data = bytearray(altered(file, bomb).read_bytes())
    while (place := data.find(size.to_bytes(4, "little"))) >= 0:
        data[place : place + 4] = (3).to_bytes(4, "little")
    (tmp_path / "bomb.zip").write_bytes(data)
    with pytest.raises(BadBackup, match="bomb"):
        restore(tmp_path / "bomb.zip", state)
    assert everything(state).keys() == {"up.lock"}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_backup_larger_than_the_disk_is_refused_before_anything_is_written(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file, state = tmp_path / "backup.zip", tmp_path / "new"
    back_up(settings, file)
    monkeypatch.setattr(restoring.shutil, "disk_usage", lambda _: usage(free=64 << 20))
    with pytest.raises(NoRoom, match="make room"):
        restore(file, state)
    assert {path.name for path in state.iterdir()} <= {"up.lock"}


def usage(free: int) -> SimpleNamespace:
    return SimpleNamespace(free=free, total=free * 2, used=free)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_backup_is_told(tmp_path: Path, content: bytes):
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(BadBackup, match=r"not a (whole )?backup"):
        restore(tmp_path / "x.zip", tmp_path / "new")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_backup_cut_off_anywhere_is_refused(settings: Settings, tmp_path: Path):
    file = tmp_path / "backup.zip"
    back_up(settings, file)
    data = file.read_bytes()
    for size in (1, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.zip").write_bytes(data[:size])
        with pytest.raises(BadBackup):
            restore(tmp_path / "cut.zip", tmp_path / "new")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_tables_of_an_older_version_are_migrated_and_of_a_newer_one_refused(
    settings: Settings, tmp_path: Path
):
    assert settings.database.url.startswith("sqlite")
    file = tmp_path / "backup.zip"
    old = Database(f"sqlite:///{tmp_path}/ancient.db")
    old.open()
    old.close()
    with closing(sqlite3.connect(tmp_path / "ancient.db", isolation_level=None)) as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            database.execute(f"DROP TABLE {name}")
        ancient = database.serialize()
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('9999')")
        newer = database.serialize()
    back_up(settings, file)
    with pytest.raises(NewerDatabase, match="9999"):
        restore(
            altered(file, lambda members, manifest: add(members, manifest, DATABASE, newer)), tmp_path / "a"
        )
    restore(
        altered(file, lambda members, manifest: add(members, manifest, DATABASE, ancient)), tmp_path / "b"
    )
    assert set(rows(f"sqlite:///{tmp_path}/b/board.db").values()) == {0}


def test_the_format_of_this_version_is_what_is_written(settings: Settings, tmp_path: Path):
    back_up(settings, tmp_path / "backup.zip")
    with zipfile.ZipFile(io.BytesIO((tmp_path / "backup.zip").read_bytes())) as archive:
        assert json.loads(archive.read(MANIFEST))["format"] == FORMAT
        assert archive.testzip() is None
