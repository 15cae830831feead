"""``callboard flash``: cards from which machines boot as nodes, one or many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from callboard_console.cli import options
from callboard_console.cli.context import Access
from callboard_console.cli.reaching import reaching
from callboard_core.errors import BadRequest

__all__ = ["flash"]


@reaching
def flash(
    *,
    source: Annotated[
        Path | None,
        typer.Argument(
            help="An image (.img, .img.xz, .zip), or the folder where a card's boot partition is mounted."
        ),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Argument(
            help="The new image file, or the card's device, as /dev/sdb. With --fleet, a folder or a device."
        ),
    ] = None,
    access: Access,
    node_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="Node id, and host name.")] = None,
    label: Annotated[str, typer.Option(help="What people read.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="A tag to find it by (may be repeated).")] = None,
    user: Annotated[str, typer.Option(help="Who may log in with the SSH keys.")] = "pi",
    ssh_key: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A public SSH key, or its file (may be repeated)."),
    ] = None,
    console_password_file: Annotated[
        Path | None, typer.Option(help="Let the user log in at the console, with the password in this file.")
    ] = None,
    wifi: Annotated[str, typer.Option(metavar="NAME", help="Wi-Fi network.")] = "",
    wifi_password_file: Annotated[
        Path | None, typer.Option(help="File with its password. [default: asked for]", show_default=False)
    ] = None,
    wifi_hidden: Annotated[
        bool, typer.Option("--wifi-hidden", help="The network does not tell its name.")
    ] = False,
    country: Annotated[str, typer.Option(metavar="CC", help="Country of the Wi-Fi, as GB.")] = "",
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="As Europe/London.")] = "",
    keyboard: Annotated[str, typer.Option(metavar="LAYOUT", help="As gb.")] = "",
    bus: Annotated[
        list[str] | None, typer.Option(help="Switch on i2c, spi or 1-wire (may be repeated).")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="TOML file with the agent's settings, as its [[sensor]] tables.")
    ] = None,
    join: Annotated[
        str,
        typer.Option(
            metavar="CODE", help="Join code. [default: a new one from the board]", show_default=False
        ),
    ] = "",
    no_join: Annotated[bool, typer.Option("--no-join", help="Give the card no join code.")] = False,
    join_expires: Annotated[
        str, typer.Option(metavar="TIME", help="How long a new join code is good for.")
    ] = "7d",
    fleet: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="A table with a row for each card; options hold for all."),
    ] = None,
    wheels: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take the agent's packages from there.")
    ] = None,
    no_wheels: Annotated[
        bool, typer.Option("--no-wheels", help="Have the machine fetch the agent's packages.")
    ] = False,
    extra: Annotated[
        list[str] | None, typer.Option(help="Optional part of the agent: pi. Needs --no-wheels.")
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(metavar="SUM", help="The image's SHA-256. [default: IMAGE.sha256, if it is there]"),
    ] = None,
    form: Annotated[
        Literal["cloudinit", "firstrun"] | None,
        typer.Option("--format", help="How the image is set up. [default: seen from it]"),
    ] = None,
    machine: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its processor, as aarch64. [default: seen from it]")
    ] = None,
    python: Annotated[
        str | None, typer.Option(metavar="X.Y", help="Its Python. [default: that of its Raspberry Pi OS]")
    ] = None,
    list_devices: Annotated[bool, typer.Option("--list", help="Show cards and disks, and stop.")] = False,
    yes: options.Yes = False,
    serial: Annotated[
        str | None, typer.Option(help="The device's serial number; with --yes instead of typing its name.")
    ] = None,
) -> None:
    """Make a card that boots as a node, which joins the board by itself.

    Example: callboard flash raspios.img.xz /dev/sdb --id greenhouse --ssh-key ~/.ssh/id_ed25519.pub
    """
    from callboard_console.cli import flash_cards, flash_config

    if list_devices:
        flash_cards.show_devices()
        return
    if source is None:
        raise BadRequest("name an image, as in `callboard flash raspios.img.xz /dev/sdb --id greenhouse`")
    given: dict[str, object] = {
        "--join": join,
        "--no-join": no_join,
        "--wheels": wheels,
        "--no-wheels": no_wheels,
        "--fleet": fleet,
        "--wifi": wifi,
        "--wifi-hidden": wifi_hidden,
        "--wifi-password-file": wifi_password_file,
        "--extra": extra,
    }
    flash_config.check_options(given)
    shared = flash_config.shared(
        id=node_id,
        label=label,
        tags=tag,
        user=user,
        ssh_keys=ssh_key,
        password_file=console_password_file,
        ssid=wifi,
        passphrase_file=wifi_password_file,
        hidden=wifi_hidden,
        country=country,
        timezone=timezone,
        keyboard=keyboard,
        buses=bus,
        settings=settings,
        join=join,
        fetch=no_wheels,
        extras=extra,
    )
    configs = flash_config.configs(shared, fleet)
    flash_cards.check(source, target, many=fleet is not None, sha256=sha256, wheels=wheels)
    flash_config.check_settings(configs)
    asking = None if no_join else flash_config.Joins(access, join_expires)
    configs = [config if config.join or asking is None else asking.give(config) for config in configs]
    system = flash_cards.System(form, machine, python, None if no_wheels else wheels, offline=not no_wheels)
    cards = flash_cards.Cards(source, target, system, yes=yes, serial=serial)
    cards.make(configs, many=fleet is not None)
