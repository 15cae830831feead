"""Whether a device may be overwritten. Pure: from facts to a reason against it; deny by default."""

from __future__ import annotations

from collections.abc import Iterator

from callboard_core.errors import BadRequest, Conflict, Forbidden
from callboard_nodes.flash.facts import Device, Machine

__all__ = ["check_confirmation", "check_safe", "check_same", "objections"]

#: Cards and sticks come in readers (USB) or slots (mmc); what is inside of a machine is on other buses.
_BUSES = ("usb", "mmc")
#: Larger than any card that a Pi boots from; a backup disk in a USB case is removable as well.
LARGEST = 2 * 2**40
#: Numbers that the kernel keeps for memory and files that look like disks.
_VIRTUAL = ("loop", "ram", "zram", "dm-", "md", "nbd", "sr", "fd")


def objections(device: Device, machine: Machine) -> Iterator[str]:
    """Return every reason why a device must not be overwritten; none when it may be."""
    if device.name.startswith(_VIRTUAL):
        yield "it is no card: it is made of something else in this machine"
    if not device.removable and device.bus not in _BUSES:
        yield "it is not removable: it is a disk inside of this machine"
    if device.name.endswith(("boot0", "boot1", "rpmb")):
        yield "it holds a chip's own firmware"
    if device.read_only:
        yield "it is read-only: push the switch on the card's edge"
    if not device.size:
        yield "there is no card in it"
    if device.size > LARGEST:
        yield f"it has {device.size / 2**40:.1f} TiB, and no card is that large"
    yield from _in_use(device, machine)


def _in_use(device: Device, machine: Machine) -> Iterator[str]:
    for name, place in machine.mounts:
        if device.name in _disks(name, machine) or name == device.number:
            yield f"it is in use: {name} is mounted on {place}; unmount it first"
    for name in machine.swaps:
        if device.name in _disks(name, machine):
            yield f"it is in use: this machine swaps to {name}"
    for holder in device.holders:
        yield f"it is in use: {holder} is made of it"


def _disks(name: str, machine: Machine) -> set[str]:
    """Return everything that a device lies on, itself included, by name."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += machine.below.get(each, ())
    return found


def check_safe(device: Device, machine: Machine) -> None:
    """Check that a device may be overwritten.

    Raises:
        Forbidden: it must not; the message has every reason.
    """
    against = list(objections(device, machine))
    if against:
        raise Forbidden(
            f"/dev/{device.name} ({device.model or 'unknown'}) is not overwritten: {'; '.join(against)}"
        )


def check_same(expected: Device, found: Device | None) -> None:
    """Check that a device is still the one that was confirmed.

    Raises:
        Conflict: it is another one, or gone.
    """
    if found is None:
        raise Conflict(f"/dev/{expected.name} is gone; put the card in again, and begin anew")
    for what in ("number", "size", "serial", "model"):
        before, now = getattr(expected, what), getattr(found, what)
        if before != now:
            raise Conflict(
                f"/dev/{expected.name} has another {what} ({now}) than what was confirmed ({before}); begin anew"
            )


def check_confirmation(device: Device, *, serial: str | None, typed: str | None) -> None:
    """Check that a person, or a program that knows the device's serial number, wants it overwritten.

    Args:
        device: the device.
        serial: what ``--serial`` said; None when not given.
        typed: what somebody typed when asked for the device's name; None when nobody was asked.

    Raises:
        BadRequest: they do not.
    """
    if serial is not None and serial != device.serial:
        has = f"the serial number {device.serial}" if device.serial else "no serial number"
        raise BadRequest(f"/dev/{device.name} has {has}, not {serial}; nothing was written")
    if typed is None and not serial:
        raise BadRequest(
            f"--yes overwrites /dev/{device.name} only with --serial {device.serial or 'NUMBER'} as well"
        )
    if typed is not None and typed.removeprefix("/dev/") != device.name:
        raise BadRequest(f"that is not {device.name}; nothing was written")
