"""Root's part of an update, started by ``callboard-update.path``: check, install into the spare slot, switch, restart.

Nothing that the node's user has put down is believed: the signature is checked with the key that root has pinned, and
content is copied and checked by its hash before it is used. What went wrong leaves everything as it was.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import logging
import os
import pwd
import shutil
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from callboard_core.errors import BadRequest, CallboardError, Failed, Forbidden
from callboard_core.messages import Payload, parse
from callboard_core.settings import Settings, load_settings
from callboard_core.updates import Content, Manifest, Signed
from callboard_nodes.install import venvs
from callboard_nodes.install.layout import ROLLBACK, SLOTS, USER, Layout
from callboard_nodes.install.venvs import SlotError
from callboard_nodes.update import rollback
from callboard_nodes.update.checking import (
    Here,
    check,
    check_allowed,
    check_trusted,
    opened,
    target_of,
    wheels_for,
)
from callboard_nodes.update.rollback import ENDS, UNDER_WAY, Book, Entry, Journal, Placed, begin_trial

__all__ = ["Applying", "Request", "main"]

_log = logging.getLogger("callboard.update")

#: What an order is to systemd.
_ORDERS = {"reboot": "reboot", "shutdown": "poweroff"}
_REQUEST_BYTES = 1024 * 1024
_BLOCK = 1024 * 1024
#: Bytes of a file that can be put back.
_LARGEST_OLD = 2**30
#: Bytes on the disk for each byte of wheels: the copy, and the environment with what is compiled; and some to spare.
_ROOM, _SPARE = 8, 32 * 1024 * 1024


class Request(Payload):
    """What the node has fetched and asks root to apply."""

    signed: Signed


class Applying:
    """One look at what the node asks for.

    Args:
        layout: where the node is installed.
        run: what to do with a unit: ``systemctl`` and its arguments.
        user: as whom the node runs.
        fill: makes an environment: slot, wheels, version.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        run: Callable[..., bool] = rollback.systemctl,
        user: str = USER,
        fill: Callable[[Path, Path, str], None] | None = None,
    ) -> None:
        self.layout, self.book = layout, Book(layout.root)
        self._run = run
        self._owner = _owner(user)
        self._fill = fill or partial(_install, user=user if self._owner is not None else None)

    def run(self) -> Journal | None:
        """Do what there is to do; returns how far it came."""
        self._obey_order()
        with self.book.held() as mine:
            return self._go_on() if mine else None

    def _obey_order(self) -> None:
        """Reboot or shut down, if the node was asked to and root's own settings allow it."""
        file = self.layout.power
        if not _is_there(file):
            return
        try:
            with self.book.their_rights():
                word = _read(file, 100).decode("ascii", errors="replace").strip()
            self._remove(file)
            if word not in _ORDERS or word not in self._settings(self.layout.config).node.allow:
                raise Forbidden(f"{word!r} is not in node.allow")
        except CallboardError as error:
            self._remove(file)
            _log.error("an order is not carried out: %s", error.message)
            return
        self._run(_ORDERS[word])

    def _go_on(self) -> Journal | None:
        # The program that undoes updates fits the one that writes its journal.
        rollback.to_file(self.layout.rollback, Path(rollback.__file__).read_bytes(), 0o755)
        journal = self.book.read()
        if journal is None or journal.state in ENDS:
            journal = self._take()
        elif self.layout.request.exists():
            self._drop("another update is under way; send it again once that has ended")
        if journal is not None and journal.state in UNDER_WAY:
            journal = self._apply(journal)
        if journal is not None and journal.state not in ENDS:
            self._run("start", "--no-block", f"{ROLLBACK}.service")
        return journal

    # -- what the node asks for --------------------------------------------------------------------------------

    def _take(self) -> Journal | None:
        """Check the request and make it root's own."""
        if not _is_there(self.layout.request):
            return None
        try:
            with self.book.their_rights():
                text = _read(self.layout.request, _REQUEST_BYTES)
            request = parse(Request, text)
        except CallboardError as error:
            self._drop(error.message)
            return None
        try:
            manifest = self._checked(request)
            self._copy(manifest)
        except (CallboardError, OSError) as error:
            return self._refuse(request, error.message if isinstance(error, CallboardError) else str(error))
        rollback.to_file(self.book.work / "manifest.json", request.signed.manifest.encode())
        journal = self.book.write(_journal(request.signed.id, manifest))
        self._clear_inbox()
        return journal

    def _checked(self, request: Request) -> Manifest:
        """Return the manifest.

        Raises:
            CallboardError: it is not the board's, or this node does not take it.
        """
        pins = self.book.pins()
        check_trusted(pins["key"])
        manifest = opened(request.signed, pins["key"])
        settings = self._settings(self.layout.config)
        here = Here(
            site=manifest.site,  # of which board it is, its key says
            node=settings.node.id,
            version=importlib.metadata.version("callboard"),
            numbers=pins["numbers"],
            folders=folders_of(settings),
        )
        check_allowed(manifest, settings.node.allow)
        check(manifest, here)
        return manifest

    def _copy(self, manifest: Manifest) -> None:
        """Make our own copies of what was fetched.

        Raises:
            BadRequest: a file is not what was signed.
            Failed: there is no room.
        """
        release = manifest.kind == "release"
        files = wheels_for(manifest.files) if release else manifest.files
        shutil.rmtree(self.book.work, ignore_errors=True)
        self.book.work.mkdir(parents=True, mode=0o700)
        needed = _ROOM * sum(one.size for one in files) + _SPARE
        free = shutil.disk_usage(self.book.work).free
        if free < needed:
            raise Failed(f"the update needs {needed // 2**20} MiB on the disk, and {free // 2**20} are free")
        for number, one in enumerate(files):
            name = one.name if release else f"new-{number}"  # pip goes by a wheel's name
            with self.book.their_rights():
                fetched = _open_fetched(self.layout.inbox / one.sha256, one)
            _copy_checked(fetched, self.book.work / name, one)
        venvs.sync_folder(self.book.work)

    def _refuse(self, request: Request, reason: str) -> Journal:
        _log.error("update %s is refused: %s", request.signed.id, reason)
        refused = Journal(id=request.signed.id, number=0, kind="", begun=time.time())
        with suppress(CallboardError):
            refused = _journal(request.signed.id, parse(Manifest, request.signed.manifest))
        journal = self.book.write(refused.after("failed", reason=reason))
        self._clear_inbox()
        return journal

    def _drop(self, reason: str) -> None:
        _log.error("a request is dropped: %s", reason)
        self._clear_inbox()

    def _clear_inbox(self) -> None:
        """Remove the request, which would start this again, and then what was fetched for it."""
        self._remove(self.layout.request)

    def _remove(self, path: Path) -> None:
        """Remove what the node has put down, whatever it is: as long as it is there, this is started again."""
        with self.book.their_rights():
            try:
                path.unlink(missing_ok=True)
            except IsADirectoryError:
                shutil.rmtree(path, ignore_errors=True)
            except OSError as error:
                _log.error("%s cannot be removed: %s", path, error.strerror)

    # -- applying ----------------------------------------------------------------------------------------------

    def _apply(self, journal: Journal) -> Journal:
        try:
            manifest = parse(Manifest, (self.book.work / "manifest.json").read_bytes())
            if journal.state == "copied":
                journal = self.book.write(self._prepared(journal, manifest))
        except (CallboardError, SlotError, OSError) as error:
            reason = error.message if isinstance(error, CallboardError) else str(error)
            return self.book.write(journal.after("failed", reason=reason))
        return begin_trial(self.book, self.book.write(journal.after("switch")), self._run)

    def _prepared(self, journal: Journal, manifest: Manifest) -> Journal:
        """Have ready what will be switched to, and what will be switched back to."""
        match manifest.kind:
            case "release":
                placed = self._fill_slot(manifest.version)
            case "config":
                placed = self._config()
            case "files":
                placed = self._files(manifest.files)
        os.sync()
        return journal.after("prepared", placed=placed)

    def _fill_slot(self, version: str) -> Placed:
        before = self.book.current()
        after = next(name for name in SLOTS if name != before)
        self._fill(self.layout.slot(after), self.book.work, version)
        return Placed(before, after)

    def _config(self) -> Placed:
        new, old = self._settings(self.book.work / "new-0"), self._settings(self.layout.config)
        if (new.site, new.node.id) != (old.site, old.node.id):
            raise BadRequest(
                f"the configuration makes {old.node.id} at {old.site} another node ({new.node.id} at {new.site}); "
                "for that, flash or install it anew"
            )
        wider = set(new.node.allow) - set(old.node.allow)
        if wider and "update" not in old.node.allow:  # whom it allows that, decides about this machine anyway
            raise Forbidden(
                f"the configuration would have this node allow {', '.join(sorted(wider))}; where updates are not "
                f"allowed, only {self.layout.config} on the machine itself can add to node.allow"
            )
        mode, owner = 0o640, (0, self._owner[1]) if self._owner is not None else None
        with suppress(OSError):
            found = self.layout.config.stat()
            mode, owner = stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid)
        return Placed(files=(self._entry(0, self.layout.config, mode=mode, owner=owner),))

    def _files(self, files: list[Content]) -> Placed:
        folders = folders_of(self._settings(self.layout.config))
        targets = [Path(target_of(one, folders)) for one in files]
        entries = [
            self._entry(number, path, mode=0o640, owner=self._owner) for number, path in enumerate(targets)
        ]
        return Placed(files=tuple(entries))

    def _settings(self, file: Path) -> Settings:
        """Return what a settings file says; the environment is root's, and no business of the node's."""
        there = file if file.exists() else Path(os.devnull)
        return load_settings(file=there, env={}, flags={"state": self.layout.state}).value

    def _entry(self, number: int, path: Path, *, mode: int, owner: tuple[int, int] | None) -> Entry:
        """Keep what is there now."""
        with rollback.rights(owner):
            old = _read(path, _LARGEST_OLD) if _is_there(path) else None
        if old is None:
            return Entry(str(path), f"new-{number}", None, mode, owner)
        rollback.to_file(self.book.work / f"old-{number}", old, 0o600)
        return Entry(str(path), f"new-{number}", f"old-{number}", mode, owner)


def folders_of(settings: Settings) -> tuple[str, ...]:
    """Return the folders in which a node takes files; the first is in its state folder."""
    return (str(settings.state / "files"), *(str(folder) for folder in settings.node.files))


def _install(slot: Path, wheels: Path, version: str, *, user: str | None) -> None:
    venvs.make(slot)
    try:
        venvs.fill(slot, wheels, [f"callboard=={version}"])
    except SlotError as error:
        remedy = "if a package is missing, send the wheels for machines like this one (`callboard update --wheels`)"
        raise SlotError(f"{error}; {remedy}") from None
    venvs.self_test(slot, version=version, user=user)


def _journal(name: str, manifest: Manifest) -> Journal:
    return Journal(
        id=name,
        number=manifest.number,
        kind=manifest.kind,
        version=manifest.version,
        replaces=importlib.metadata.version("callboard"),
        restart=manifest.restart or manifest.kind == "release",
        within=manifest.within,
        well_for=manifest.well_for,
        begun=time.time(),
    )


def _owner(user: str) -> tuple[int, int] | None:
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        return None
    return found.pw_uid, found.pw_gid


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


def _open(path: Path) -> int:
    """Open what somebody else may have put there: no link, no pipe.

    Raises:
        BadRequest: it is not a plain file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise BadRequest(f"{path} is not a plain file")


def _read(path: Path, most: int) -> bytes:
    try:
        with os.fdopen(_open(path), "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > most:
        raise BadRequest(f"{path} has more than {most} bytes")
    return data


def _open_fetched(source: Path, wanted: Content) -> int:
    try:
        return _open(source)
    except OSError as error:
        raise BadRequest(f"{wanted.name} was not fetched: {error.strerror}") from None


def _copy_checked(source: int, target: Path, wanted: Content) -> None:
    """Copy a content, opened already, that must be what was signed."""
    found, size = hashlib.sha256(), 0
    with os.fdopen(source, "rb") as file, target.open("xb") as copy:
        while (block := file.read(_BLOCK)) and size <= wanted.size:
            found.update(block)
            size += len(block)
            copy.write(block)
        copy.flush()
        os.fsync(copy.fileno())
    if size != wanted.size or found.hexdigest() != wanted.sha256:
        raise BadRequest(f"{wanted.name} is not what was signed; fetch it again")


def main() -> None:
    """Apply what the node asks for; its exit code tells systemd whether something was wrong."""
    parser = argparse.ArgumentParser(description="Apply an update that the Callboard node has fetched.")
    parser.add_argument("--root", type=Path, default=Path("/"))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    journal = Applying(Layout(parser.parse_args().root)).run()
    if journal is not None and journal.state == "failed":
        sys.exit(f"update {journal.id} failed: {journal.reason}")


if __name__ == "__main__":
    main()
