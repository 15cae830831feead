"""Machines on one Ethernet, for tests of what happens between hosts: network namespaces joined by a bridge."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

_numbers = count()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20)


@dataclass
class Lan:
    """A bridge in a namespace of its own, and the machines plugged into it as 10.77.0.1, .2, …"""

    prefix: str
    machines: dict[str, str] = field(default_factory=dict)

    @property
    def switch(self) -> str:
        return f"{self.prefix}-switch"

    def add(self, name: str, *, cable: bool = True) -> str:
        """Add a machine; return its address. Without ``cable`` it is unplugged until :meth:`plug`."""
        number = len(self.machines) + 1
        namespace = self.namespace(name)
        ip("netns", "add", namespace)
        self.machines[name] = f"10.77.0.{number}"
        ip("-n", namespace, "link", "set", "lo", "up")
        ip(
            "link",
            "add",
            "eth0",
            "netns",
            namespace,
            "type",
            "veth",
            "peer",
            "name",
            name,
            "netns",
            self.switch,
        )
        ip("-n", self.switch, "link", "set", name, "master", "br0", "up")
        if cable:
            self.plug(name)
        return self.machines[name]

    def plug(self, name: str) -> None:
        namespace = self.namespace(name)
        ip("-n", namespace, "address", "add", f"{self.machines[name]}/24", "dev", "eth0")
        ip("-n", namespace, "link", "set", "eth0", "up")

    def namespace(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def python(self, name: str, code: str, *arguments: str) -> subprocess.Popen[str]:
        """Run Python code on a machine; its standard input and output are pipes."""
        command = ["ip", "netns", "exec", self.namespace(name), sys.executable, "-c", code, *arguments]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


@contextmanager
def lan() -> Iterator[Lan]:
    made = Lan(f"cb{os.getpid()}-{next(_numbers)}")
    ip("netns", "add", made.switch)
    try:
        ip("-n", made.switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        ip("-n", made.switch, "link", "set", "br0", "up")
        yield made
    finally:
        for name in made.machines:
            ip("netns", "delete", made.namespace(name))
        ip("netns", "delete", made.switch)
