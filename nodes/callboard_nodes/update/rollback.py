"""Carries an update through its trial: keeps it once the node is well, and undoes it otherwise.

Standard library only: root runs a copy of this file that lies outside of the environments, so that no update can break it
(``callboard-rollback.service``). The journal of an update is defined here for the same reason. Every change of the journal
is on the disk before what it announces is done, and everything can be done twice, so that whoever comes after a power cut
goes on where the last one was.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

__all__ = [
    "ENDS",
    "STEPS",
    "UNDER_WAY",
    "Book",
    "Entry",
    "Journal",
    "Placed",
    "begin_trial",
    "look_after",
    "main",
    "place",
    "rights",
    "systemctl",
    "to_file",
]

_log = logging.getLogger("callboard.rollback")

#: What an update goes through; ``failed`` means that nothing was changed.
STEPS: dict[tuple[str, str], str] = {
    ("copied", "prepared"): "installed",
    ("copied", "failed"): "failed",
    ("installed", "switch"): "switching",
    ("installed", "failed"): "failed",
    ("switching", "switched"): "trial",
    ("switching", "placed"): "healthy",
    ("switching", "failed"): "undoing",
    ("trial", "well"): "healthy",
    ("trial", "expired"): "undoing",
    ("undoing", "undone"): "rolled-back",
}
ENDS = frozenset({"healthy", "rolled-back", "failed"})
#: Nothing has been changed yet; the update program goes on from here.
UNDER_WAY = frozenset({"copied", "installed"})

#: Boots that a trial may take: a new version that makes the machine restart is no good either.
_BOOTS = 3
#: How often the update program is started anew for one update.
_STARTS = 5
_POLL = 0.2
_SYSTEMCTL_SECONDS = 60.0
_NODE, _UPDATE = "callboard-node.service", "callboard-update.service"


@dataclass(frozen=True)
class Entry:
    """A file that an update replaces.

    Attributes:
        path: where it is.
        new: name of the new content among the update's own files.
        old: name of the old content there; None when there was no file.
        mode: the new file's permissions.
        owner: user and group, as numbers; None for whoever runs this. What belongs to others than root is read and
            written with their rights, so that no link of theirs leads root astray.
    """

    path: str
    new: str
    old: str | None = None
    mode: int = 0o644
    owner: tuple[int, int] | None = None


@dataclass(frozen=True)
class Placed:
    """What an update changes: the slot that ``current`` points to, files, or both."""

    before: str | None = None
    after: str | None = None
    files: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Journal:
    """How far an update is. Times are Unix seconds, ``since`` is seconds since the machine was started."""

    id: str
    number: int
    kind: str
    state: str = "copied"
    version: str = ""
    replaces: str = ""
    restart: bool = True
    within: float = 60.0
    well_for: float = 5.0
    placed: Placed = field(default_factory=Placed)
    begun: float = 0.0
    ended: float = 0.0
    boot: str = ""
    boots: int = 0
    starts: int = 0
    since: float = 0.0
    reason: str = ""

    def after(self, event: str, **changes: Any) -> Journal:
        """Return the journal after something happened.

        Raises:
            ValueError: it cannot happen in this state.
        """
        try:
            state = STEPS[self.state, event]
        except KeyError:
            raise ValueError(f"an update that is {self.state} cannot be {event}") from None
        if state in ENDS:
            changes["ended"] = time.time()
        return replace(self, state=state, **changes)

    @classmethod
    def of(cls, document: dict[str, Any]) -> Journal:
        """Read it; what a newer version wrote besides is ignored."""
        known = {one.name for one in fields(cls)}
        values = {name: value for name, value in document.items() if name in known}
        placed = values.pop("placed", None) or {}
        files = tuple(
            Entry(**{**one, "owner": tuple(one["owner"]) if one.get("owner") else None})
            for one in placed.get("files", ())
        )
        return cls(**values, placed=Placed(placed.get("before"), placed.get("after"), files))


class Book:
    """The files of a node's updates under a root folder; only root writes them, everybody may read them.

    Attributes:
        work: what the update under way consists of.
        health: written by a node that is well.
    """

    def __init__(self, root: Path) -> None:
        self.home = root / "opt" / "callboard"
        self.folder = self.home / "update"
        self.work = self.folder / "work"
        self._state = root / "var" / "lib" / "callboard"
        self.health = self._state / "update" / "healthy.json"
        self._journal = self.folder / "journal.json"
        self._history = self.folder / "history.jsonl"
        self._pins = self.folder / "pins.json"

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the updates of this machine; yields whether nobody else does."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        with (self.folder / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    @contextlib.contextmanager
    def their_rights(self) -> Iterator[None]:
        """Act with the rights of the node's user, whose state folder it is: no link in there leads root astray."""
        try:
            found = self._state.lstat()
        except FileNotFoundError:
            yield
            return
        with rights((found.st_uid, found.st_gid)):
            yield

    def read(self) -> Journal | None:
        """Return the journal; None when there was no update yet, or it cannot be understood."""
        try:
            return Journal.of(json.loads(self._journal.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            _log.error("%s cannot be read: %s", self._journal, error)
            return None

    def write(self, journal: Journal) -> Journal:
        """Put the journal on the disk; an update that ends goes into the history first."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        if journal.state in ENDS:
            self._note(journal)
        to_file(self._journal, json.dumps(asdict(journal), indent=1).encode())
        _log.info("update %s (%s %d) is %s", journal.id, journal.kind, journal.number, journal.state)
        return journal

    def history(self) -> list[Journal]:
        """How updates ended, oldest first; a line that a power cut has cut is left out."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for line in self._history.read_text("utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                    found.append(Journal.of(json.loads(line)))
        return found

    def pins(self) -> dict[str, Any]:
        """The key that updates must be signed with, and the numbers of the last healthy ones by their kind."""
        try:
            found = json.loads(self._pins.read_bytes())
        except FileNotFoundError:
            found = {}
        return {"key": str(found.get("key", "")), "numbers": dict(found.get("numbers", {}))}

    def pin(self, numbers: dict[str, int]) -> None:
        """Note the newest numbers that were well."""
        found = self.pins()
        found["numbers"].update(numbers)
        to_file(self._pins, json.dumps(found).encode())

    def trust(self, key: str) -> None:
        """From now on take updates that are signed with this key only; another board counts anew."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        found = self.pins()
        numbers = found["numbers"] if found["key"] == key else {}
        to_file(self._pins, json.dumps({"key": key, "numbers": numbers}).encode())

    def current(self) -> str | None:
        """Return the slot that runs."""
        try:
            return (self.home / "current").readlink().name
        except OSError:
            return None

    def point(self, slot: str) -> None:
        """Make ``current`` point to a slot, in one step."""
        new = self.home / ".current.new"
        new.unlink(missing_ok=True)
        new.symlink_to(slot)
        new.replace(self.home / "current")
        _sync(self.home)

    def _note(self, journal: Journal) -> None:
        if any(one.id == journal.id and one.begun == journal.begun for one in self.history()):
            return  # noted before a power cut
        if journal.state == "healthy":
            self.pin({journal.kind: journal.number})
        line = json.dumps(asdict(replace(journal, placed=Placed()))).encode() + b"\n"
        with self._history.open("ab") as file:
            file.write(b"\n" + line if file.tell() and not _ends_whole(self._history) else line)
            file.flush()
            os.fsync(file.fileno())


def begin_trial(book: Book, journal: Journal, run: Callable[..., bool]) -> Journal:
    """From ``switching``: put the new in place and start it; what cannot be put in place is to be undone."""
    try:
        place(book, journal.placed, new=True)
    except OSError as error:
        return book.write(journal.after("failed", reason=f"it cannot be put in place: {error}"))
    if not journal.restart:
        return book.write(journal.after("placed"))
    # What cannot be removed is no mark of this update.
    with book.their_rights(), contextlib.suppress(OSError):
        book.health.unlink(missing_ok=True)
    run("restart", _NODE)
    return book.write(journal.after("switched", boot=_boot(), boots=1, since=_since_boot()))


def look_after(
    book: Book,
    *,
    run: Callable[..., bool],
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] | None = None,
    boot: Callable[[], str] | None = None,
) -> Journal | None:
    """Bring what is under way to its end; returns at once when nothing is.

    Args:
        book: the updates of this machine.
        run: what to do with a unit: ``systemctl`` and its arguments.
        sleep: waits.
        clock: seconds since the machine was started.
        boot: names this run of the machine.
    """
    since, name = clock or _since_boot, boot or _boot
    journal = book.read()
    if journal is None or journal.state in ENDS:
        return journal
    if journal.state in UNDER_WAY:
        return _start_again(book, journal, run)
    if journal.state == "switching":
        journal = begin_trial(book, journal, run)
    if journal.state == "trial" and journal.boot != name():
        journal = book.write(replace(journal, boot=name(), boots=journal.boots + 1, since=since()))
    while journal.state == "trial":
        journal = _judge(book, journal, since()) or journal
        if journal.state == "trial":
            sleep(_POLL)
    return _undo(book, journal, run) if journal.state == "undoing" else journal


def _start_again(book: Book, journal: Journal, run: Callable[..., bool]) -> Journal:
    """A power cut has ended the update program before anything was changed."""
    if journal.starts >= _STARTS:
        return book.write(
            journal.after("failed", reason=f"it was interrupted {_STARTS} times; nothing was changed")
        )
    journal = book.write(replace(journal, starts=journal.starts + 1))
    run("start", "--no-block", _UPDATE)
    return journal


def _judge(book: Book, journal: Journal, now: float) -> Journal | None:
    if _is_well(book, journal):
        return book.write(journal.after("well"))
    if journal.boots > _BOOTS:
        return book.write(journal.after("expired", reason=f"the machine started {journal.boots} times"))
    if now - journal.since >= journal.within:
        reason = f"the node was not well within {journal.within:g} s"
        return book.write(journal.after("expired", reason=reason))
    return None


def _is_well(book: Book, journal: Journal) -> bool:
    try:
        with book.their_rights():
            mark = json.loads(_read_small(book.health))
    except (OSError, ValueError):
        return False
    if not isinstance(mark, dict) or mark.get("id") != journal.id:
        return False
    return not journal.version or mark.get("version") == journal.version


def _undo(book: Book, journal: Journal, run: Callable[..., bool]) -> Journal:
    place(book, journal.placed, new=False)
    # It is not well, so it may not stop when asked either.
    run("kill", "--signal=SIGKILL", _NODE)
    run("restart", _NODE)
    return book.write(journal.after("undone"))


def place(book: Book, placed: Placed, *, new: bool) -> None:
    """Put the new in place, or the old again."""
    for entry in placed.files:
        name = entry.new if new else entry.old
        data = b"" if name is None else (book.work / name).read_bytes()
        with rights(entry.owner):
            if name is None:
                Path(entry.path).unlink(missing_ok=True)
            else:
                Path(entry.path).parent.mkdir(parents=True, exist_ok=True)
                to_file(Path(entry.path), data, entry.mode, entry.owner)
    slot = placed.after if new else placed.before
    if slot is not None and book.current() != slot:
        book.point(slot)


@contextlib.contextmanager
def rights(owner: tuple[int, int] | None) -> Iterator[None]:
    """Act with somebody's rights; root's own when it is nobody else's."""
    if owner is None or os.geteuid() != 0 or owner[0] == 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(owner[1])
    os.seteuid(owner[0])
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def to_file(path: Path, data: bytes, mode: int = 0o644, owner: tuple[int, int] | None = None) -> None:
    """Write a file, whole or not at all, and on the disk before this returns; root can write it for an owner."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        os.fchmod(file.fileno(), mode)
        if owner is not None and os.geteuid() == 0:
            os.fchown(file.fileno(), *owner)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    _sync(path.parent)


def systemctl(*arguments: str) -> bool:
    """Have systemd do something; tells whether it did."""
    try:
        done = subprocess.run(
            ["systemctl", *arguments], capture_output=True, text=True, timeout=_SYSTEMCTL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.error("systemctl %s: %s", " ".join(arguments), error)
        return False
    if done.returncode:
        _log.error("systemctl %s: %s", " ".join(arguments), done.stderr.strip())
    return done.returncode == 0


def _read_small(path: Path) -> bytes:
    """Read what somebody else may have put there: a link or a pipe must not hold us up."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def _ends_whole(path: Path) -> bool:
    return path.read_bytes()[-1:] in {b"\n", b""}


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def main() -> None:
    """Look after the updates of a machine; started at every boot, and again and again."""
    parser = argparse.ArgumentParser(
        description="Undo an update of the Callboard node that does not get healthy."
    )
    parser.add_argument("--root", type=Path, default=Path("/"))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    book = Book(parser.parse_args().root)
    with book.held() as mine:
        if mine:
            look_after(book, run=systemctl)


if __name__ == "__main__":
    main()
