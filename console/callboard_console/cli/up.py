"""``callboard up``: the broker, the board, the console and a node of this machine, as one group of processes."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from callboard_console.cli import options

__all__ = ["up"]

_Port = typer.Option(metavar="N", min=0, max=65535, show_default=False)


def up(
    *,
    state: options.State = None,
    config: options.Config = None,
    site: options.Site = None,
    mqtt_port: Annotated[int | None, _Port] = None,
    http_port: Annotated[int | None, _Port] = None,
    console_port: Annotated[int | None, _Port] = None,
    bind: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Listen on this address, unencrypted. [default: this machine only]"
        ),
    ] = None,
    lan: Annotated[
        bool,
        typer.Option("--lan", help="Let other machines in: encrypted, on all addresses; prints a join code."),
    ] = False,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="E", help="embedded, mosquitto, or the mqtt[s]:// URL of a broker. [default: embedded]"
        ),
    ] = None,
    database: Annotated[
        str | None, typer.Option(metavar="URL", help="SQLAlchemy URL. [default: SQLite in the state folder]")
    ] = None,
    no_console: Annotated[bool, typer.Option("--no-console", help="Do not start the web console.")] = False,
    no_node: Annotated[
        bool, typer.Option("--no-node", help="Do not read this machine's own sensors.")
    ] = False,
    node_id: Annotated[
        str | None, typer.Option(metavar="ID", help="This machine's node. [default: its name]")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log of every process.")] = False,
) -> None:
    """Start a board on this machine and keep it running until Ctrl-C or SIGTERM.

    Example: callboard up --state ./board --mqtt-port 0 --no-console   (0 is any free port)
    """
    from callboard_console.cli.context import load
    from callboard_console.cli.running import run

    began = time.monotonic()
    flags = {
        "state": state,
        "site": site,
        "mqtt.port": mqtt_port,
        "http.port": http_port,
        "console.port": console_port,
        "lan.enabled": lan or None,
        "mqtt.engine": engine,
        "database.url": database,
        "console.enabled": False if no_console else None,
        "node.id": node_id,
        **{f"{section}.bind": bind for section in ("mqtt", "http", "console")},
    }
    run(load(config, flags).value, with_node=not no_node, verbose=verbose, began=began)
