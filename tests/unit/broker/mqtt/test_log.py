from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from callboard_broker.mqtt.log import Damaged, Log


class Counted(bytes):
    """Counts the bytes that are copied out of it or looked through."""

    work = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        Counted.work += len(found) if isinstance(key, slice) else 1
        return found

    def count(self, what: Any, start: Any = 0, end: Any = None) -> int:
        Counted.work += len(self) - start
        return super().count(what, start, end)


@pytest.mark.parametrize("end", [b"", bytes(4096), b"\0\0\1"])
def test_reading_many_small_batches_takes_work_in_proportion_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes
) -> None:
    log = Log(tmp_path)
    log.switch(log.rewriter(iter(())))
    for number in range(2_000):
        log.append(b"%064d" % number)
    (file,) = tmp_path.glob("journal-*.log")
    data = Counted(file.read_bytes() + end)
    monkeypatch.setattr(Counted, "work", 0)
    monkeypatch.setattr(Path, "read_bytes", lambda _: data)
    assert list(log.read()) == [b"%064d" % number for number in range(2_000)]
    assert Counted.work <= 2 * len(data)
    log.close()


def test_zeros_that_are_followed_by_something_are_damage(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.switch(log.rewriter(iter(())))
    log.append(b"kept")
    (file,) = tmp_path.glob("journal-*.log")
    file.write_bytes(file.read_bytes() + bytes(100) + b"1")
    batches = log.read()
    assert next(batches) == b"kept"
    with pytest.raises(Damaged, match="does not add up"):
        next(batches)
    log.close()
