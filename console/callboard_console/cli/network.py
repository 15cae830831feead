"""``callboard network``: what runs where, as a tree from the board to the services, and who calls whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard_console.cli import options
from callboard_console.cli.context import Access, connect, read_directory
from callboard_console.cli.output import print_json
from callboard_console.cli.reaching import reaching
from callboard_console.cli.workers import LISTEN_FOR_SESSIONS, Ear, seconds_text

if TYPE_CHECKING:
    from callboard_core.calls.sessions import Session
    from callboard_core.calls.survey import Member, Service
    from callboard_core.directory import NodeEntry
    from callboard_core.link import Link

__all__ = ["lines", "network", "picture"]


@reaching
def network(
    *,
    access: Access,
    sessions: Annotated[bool, typer.Option("--sessions", help="Also show who calls whom.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show what runs where: board, hosts, processes, services. Listens for a few seconds.

    Example: callboard network --sessions
    """
    with connect(access, "viewer") as link:
        ear = Ear(link)
        with read_directory(link) as directory:
            entries = directory.find(kind="worker", live=None)
            ear.listen(entries, at_least=LISTEN_FOR_SESSIONS if sessions else 0.0)
            entries = directory.find(kind="worker", live=None)
            seen = picture(_where(link), directory.nodes(), ear.services(entries))
        if sessions:
            seen["sessions"] = [_session(one, ear.services(entries)) for one in ear.sessions()]
    if as_json:
        print_json(seen)
    else:
        print("\n".join(lines(seen)), flush=True)


def picture(board: dict[str, Any], nodes: Iterable[NodeEntry], services: Iterable[Service]) -> dict[str, Any]:
    """Return hosts, their processes, the nodes in each, and what those offer; pure."""
    offered: dict[str, list[Member]] = {}
    for service in services:
        for member in service.members:
            offered.setdefault(member.node, []).append(member)
    hosts: dict[str, dict[str | None, list[dict[str, Any]]]] = {}
    for node in sorted(nodes, key=lambda one: one.id):
        if node.card is None and node.status is None:
            continue
        members = sorted(offered.get(node.id, []), key=lambda one: (one.card.service, one.name))
        processes = hosts.setdefault(_host(node, members), {})
        processes.setdefault(members[0].pid if members else None, []).append(_node(node, members))
    return {
        "board": board,
        "hosts": [
            {
                "host": host,
                "processes": [
                    {"pid": pid, "nodes": found} for pid, found in sorted(processes.items(), key=_pid)
                ],
            }
            for host, processes in sorted(hosts.items())
        ],
    }


def lines(seen: dict[str, Any]) -> Iterator[str]:
    """Return the picture as lines of text."""
    board = seen["board"]
    yield f"{board['site']}  board at {board['mqtt']}"
    hosts = [(f"{host['host']}", _processes(host)) for host in seen["hosts"]]
    yield from _tree(hosts)
    if "sessions" in seen:
        yield ""
        yield "sessions" if seen["sessions"] else "sessions: nothing is being called"
        for one in seen["sessions"]:
            yield f"  {one['caller']} → {one['service']} on {one['node']}  {one['rate']:.1f}/s"


_Branch = tuple[str, list[Any]]


def _processes(host: dict[str, Any]) -> list[_Branch]:
    found: list[_Branch] = []
    for process in host["processes"]:
        nodes: list[_Branch] = [
            (_node_text(node), [(_service_text(one), []) for one in node["services"]])
            for node in process["nodes"]
        ]
        # Which process it is, only those tell that offer services.
        found += [(f"process {process['pid']}", nodes)] if process["pid"] else nodes
    return found


def _node_text(node: dict[str, Any]) -> str:
    label = f" ({node['label']})" if node["label"] else ""
    return f"{node['node']}{label}  {node['status']}"


def _service_text(one: dict[str, Any]) -> str:
    state = "" if one["state"] == "ready" else f"  {one['state']}"
    if one["running"] is None:
        return f"{one['service']}{state}"
    said = f"{one['running']} running, {one['waiting']} waiting"
    times = (
        f", p50 {seconds_text(one['p50'])}, p95 {seconds_text(one['p95'])}" if one["p50"] is not None else ""
    )
    return f"{one['service']}{state}  {said}{times}"


def _tree(branches: list[_Branch], indent: str = "") -> Iterator[str]:
    for position, (text, below) in enumerate(branches):
        last = position == len(branches) - 1
        yield f"{indent}{'└─' if last else '├─'} {text}"
        yield from _tree(below, indent + ("   " if last else "│  "))


def _where(link: Link) -> dict[str, Any]:
    return {"site": link.site, "mqtt": str(link.endpoint)}


def _host(node: NodeEntry, members: list[Member]) -> str:
    if node.card is not None and node.card.host is not None:
        return node.card.host.hostname
    return next((one.card.host for one in members if one.card.host), None) or "unknown host"


def _node(node: NodeEntry, members: list[Member]) -> dict[str, Any]:
    return {
        "node": node.id,
        "label": (node.card.label if node.card else None) or "",
        "status": node.status.status.value if node.status else "unknown",
        "services": [_service(one) for one in members],
    }


def _service(member: Member) -> dict[str, Any]:
    report = member.report
    return {
        "service": member.card.service,
        "worker": member.name,
        "state": member.standing.value,
        "running": report.running if report else None,
        "waiting": report.waiting if report else None,
        "p50": report.p50 if report else None,
        "p95": report.p95 if report else None,
    }


def _session(one: Session, services: Iterable[Service]) -> dict[str, Any]:
    names = {(member.node, member.name): service.name for service in services for member in service.members}
    service = names.get((one.node, one.worker), one.worker)
    return {
        "caller": one.caller,
        "service": service,
        "node": one.node,
        "worker": one.worker,
        "rate": round(one.rate, 2),
    }


def _pid(process: tuple[str | None, Any]) -> tuple[bool, str]:
    return process[0] is None, process[0] or ""
