"""Replaces an enrolment and is killed before each of its operations on files, in turn. Arguments: a node's state folder.

Prints, for each kill, the operation and whether what is found afterwards is whole: ``old`` or ``new``.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from callboard_nodes.enrolment import Enrolment, Store

WATCHED = {"open", "os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "shutil.rmtree"}


def die_before(number: int, report: int) -> None:
    """Kill this process before its operation ``number``, counted from 0."""
    count = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event not in WATCHED:
            return
        if count == number:
            os.write(report, f"{event} {arguments[0]}".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    sys.addaudithook(watch)


def change(store: Store, new: Enrolment, number: int) -> str:
    """Have a child write ``new`` and die; returns before what, empty if it came to the end."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        die_before(number, writer)
        store.write(new)
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as told:
        return told.read()


def found(store: Store) -> str:
    """Read what is there, as a node that connects does."""
    enrolment = store.read()
    assert enrolment is not None
    enrolment.context(certified=True)  # raises where key and certificate do not fit
    return enrolment.password


def main() -> None:
    store = Store(Path(sys.argv[1]))
    old = store.read()
    other = Store(Path(sys.argv[2])).read()
    assert old is not None
    assert other is not None
    old, new = replace(old, password="old"), replace(other, password="new")
    store.write(old)
    number = 0
    while before := change(store, new, number):
        print(before, found(store), sep="\t", flush=True)
        store.write(old)
        number += 1
    print("done", found(store), sep="\t")


if __name__ == "__main__":
    main()
