"""Services: what their names look like, how many are meant at once, and the ids their workers get. Pure."""

from __future__ import annotations

import fnmatch
import re

from callboard_core.errors import BadRequest
from callboard_core.topics import slug

__all__ = ["LONGEST", "SERVICE_PATTERN", "check_service", "field_of", "numbered", "service_filter"]

#: Longest name of a service, in characters.
LONGEST = 200
#: One to many fields, separated by colons.
SERVICE_PATTERN = r"[a-z0-9][a-z0-9.-]*(:[a-z0-9][a-z0-9.-]*)*"

_SERVICE = re.compile(SERVICE_PATTERN)
#: What makes a text a glob rather than one name.
_GLOB = re.compile(r"[*?\[]")
#: What fits in an id (see ``topics.ID_PATTERN``).
_LONGEST_ID = 63


def check_service(text: str) -> str:
    """Return ``text`` if it names a service, such as ``render:frames`` or ``camera-1:take-picture``.

    Raises:
        BadRequest: it does not; the message says how names look.
    """
    if len(text) <= LONGEST and _SERVICE.fullmatch(text):
        return text
    raise BadRequest(
        f"service {text[: LONGEST + 1]!r}: use fields of a-z, 0-9, '-' and '.', separated by ':', "
        f"at most {LONGEST} characters"
    )


def service_filter(wanted: str | re.Pattern[str]) -> re.Pattern[str]:
    """Return what the names of the wanted services match in full.

    Args:
        wanted: a name, a glob (``render:*``) or a compiled regular expression.

    Raises:
        BadRequest: it is neither a name nor a glob.
    """
    if isinstance(wanted, re.Pattern):
        return wanted
    if _GLOB.search(wanted):
        return re.compile(fnmatch.translate(wanted))
    return re.compile(re.escape(check_service(wanted)))


def field_of(python_name: str) -> str:
    """Return the field of a service that stands for a Python name: ``take_picture`` gives ``take-picture``."""
    return slug(python_name)


def numbered(wanted: str, taken: int) -> str:
    """Return an id: ``wanted`` for the first that asks (``taken`` is 0), then with ``-2``, ``-3`` and so on."""
    if not taken:
        return wanted
    suffix = f"-{taken + 1}"
    return wanted[: _LONGEST_ID - len(suffix)].rstrip("-") + suffix
