from typing import Any

import pytest

from callboard_broker.backup.manifest import FORMAT, Manifest, is_kept, parse_manifest
from callboard_broker.errors import BadBackup
from callboard_core.errors import Conflict


def manifest(*names: str, **changed: Any) -> bytes:
    parts = [{"name": name, "size": 3, "sha256": "0" * 64} for name in names]
    made = {
        "format": FORMAT,
        "callboard": "0.1.0",
        "made": 1.0,
        "site": "callboard",
        "engine": "embedded",
        "database": "sqlite",
        "revision": "0001",
        "artifacts": True,
        "parts": parts,
    }
    return Manifest.model_construct(**(made | changed)).model_dump_json(warnings=False).encode()


@pytest.mark.parametrize(
    "path",
    [
        "users.json",
        "credentials/admin.password",
        "trust/ca.key",
        "broker/journal-00000007.log",
        "mosquitto/retained.db",
        "board/epoch",
        "nodes/pi/outbox/0000000001-0.readings",
        "nodes/pi/enrolment/node.key",
        "nodes/pi/farm/slots.json",
        "artifacts/index.db",
        f"artifacts/ab/{'ab' * 32}",
        "jobtypes/my own.py",
    ],
)
def test_what_a_board_is_made_of_is_kept(path: str):
    assert is_kept(path)


@pytest.mark.parametrize(
    "path",
    [
        "run/settings.json",
        "runtime.json",
        "up.lock",
        "users.lock",
        "broker/lock",
        "log/board.log",
        "board.db-wal",
        "artifacts/index.db-shm",
        "artifacts/parts/new.123",
        "artifacts/damaged/x",
        "broker/journal-00000008.log.new",
        "broker/journal-00000001.log.damaged-20261130-010101",
        "nodes/pi/farm/cache/ab",
        "nodes/pi/farm/blender/work/x.png",
        ".users.json.abc",
        "before-restore-20261130-010101/users.json",
    ],
)
def test_what_belongs_to_one_run_is_not(path: str):
    assert not is_kept(path)


def test_artifacts_can_be_left_out():
    assert not is_kept("artifacts/index.db", artifacts=False)
    assert is_kept("users.json", artifacts=False)


def test_a_manifest_of_ours_is_read():
    found = parse_manifest(manifest("database.sqlite3", "callboard.toml", "state/users.json"))
    assert [part.name for part in found.parts] == ["database.sqlite3", "callboard.toml", "state/users.json"]
    assert found.size == 9


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "state//etc/passwd",
        "state/../../etc/passwd",
        "state/a/../../b",
        "state/./a",
        "state/",
        "state",
        "state/a/",
        "../x",
        "x",
        "",
        "state/a\\b",
        "state/a\0b",
        "state/a\nb",
        "manifest.json",
        "state/up.lock",
        "state/run/settings.json",
        "state/" + "x" * 1001,
    ],
)
def test_a_name_that_no_backup_holds_is_refused(name: str):
    with pytest.raises(BadBackup, match="no backup does"):
        parse_manifest(manifest("database.sqlite3", name))


def test_a_part_named_twice_is_refused():
    with pytest.raises(BadBackup, match="twice"):
        parse_manifest(manifest("state/a", "state/a"))


def test_a_backup_of_a_newer_version_says_which_one():
    with pytest.raises(Conflict, match=r"Callboard 9\.1.*install the newer"):
        parse_manifest(b'{"format": 99, "callboard": "9.1", "whatever": []}')


@pytest.mark.parametrize("data", [b"", b"[]", b'{"format": 1}', b"\xff", b'{"format": "x"}'])
def test_a_damaged_manifest_is_refused(data: bytes):
    with pytest.raises(BadBackup, match="damaged"):
        parse_manifest(data)
