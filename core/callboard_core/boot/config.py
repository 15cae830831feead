"""What somebody wants of the machine that boots from a card. No secret in it opens more than one door, and none is a password."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from callboard_core.boot.places import check_country, check_zone
from callboard_core.errors import BadRequest
from callboard_core.topics import ID_PATTERN, check_id

__all__ = ["Bus", "CardConfig", "Wifi", "psk"]

Bus = Literal["i2c", "spi", "1-wire"]

_PSK = re.compile(r"[0-9a-f]{64}")
_PASSPHRASE = re.compile(r"[ -~]{8,63}")
_SSID_BYTES = 32
_KEY = re.compile(
    r"(ssh-(ed25519|rsa)|ecdsa-sha2-nistp\d+|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]{40,}={0,3}( [^\n\r]*)?"
)
#: As crypt(5) writes them: yescrypt, SHA-512 or SHA-256.
_HASH = re.compile(r"\$(y|5|6)\$[A-Za-z0-9./$=,-]{20,200}")
#: Users that Debian or Callboard itself has.
_TAKEN = frozenset({"root", "callboard", "daemon", "bin", "sys", "nobody", "mail", "www-data", "sshd"})


def psk(ssid: str, passphrase: str) -> str:
    """Return the key that a Wi-Fi passphrase stands for, as 64 hexadecimal digits (IEEE 802.11i, annex H.4).

    Raises:
        BadRequest: no network can have such a passphrase.
    """
    if not _PASSPHRASE.fullmatch(passphrase):
        raise BadRequest("a Wi-Fi passphrase has 8 to 63 printable ASCII characters; check it")
    return hashlib.pbkdf2_hmac("sha1", passphrase.encode(), ssid.encode(), 4096, 32).hex()


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("should be one line without control characters")
    return text


def _public_key(text: str) -> str:
    if not _KEY.fullmatch(text.strip()) or not text.strip().isprintable():
        raise ValueError(
            "should be one line of a public SSH key (ssh-ed25519 AAAA…), as in a file that ends in .pub"
        )
    return text.strip()


def _like(pattern: str, what: str, check: Callable[[str], str] = str) -> AfterValidator:
    """A text that may be empty, or is like ``what``; people do not read patterns."""

    def look(text: str) -> str:
        if text and not re.fullmatch(pattern, text):
            raise ValueError(f"should be {what}")
        return check(text) if text else text

    return AfterValidator(look)


def _user(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,30}", name):
        raise ValueError("should begin with a letter, and have at most 31 of a-z, 0-9, '-' and '_'")
    if name in _TAKEN:
        raise ValueError(f"{name} is a user that the system has already; choose another name")
    return name


def _id(text: str) -> str:
    try:
        return check_id(text)
    except BadRequest as error:
        raise ValueError(error.message) from None


Line = Annotated[str, AfterValidator(_one_line)]
Id = Annotated[str, AfterValidator(_id), Field(json_schema_extra={"pattern": f"^{ID_PATTERN}$"})]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Wifi(_Part):
    """A Wi-Fi network."""

    ssid: Annotated[Line, Field(min_length=1)]
    psk: str = Field(
        default="", repr=False, pattern=r"^([0-9a-f]{64})?$", description="see psk(); empty for an open one"
    )
    hidden: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.ssid.encode()) > _SSID_BYTES:
            raise ValueError(f"the name of a Wi-Fi network has at most {_SSID_BYTES} bytes")
        return self

    @classmethod
    def of(cls, ssid: str, passphrase: str = "", *, hidden: bool = False) -> Wifi:
        """Return a network by its passphrase, its 64-digit key, or neither when it is open.

        Raises:
            BadRequest: no network can have such a passphrase.
        """
        key = passphrase if not passphrase or _PSK.fullmatch(passphrase) else psk(ssid, passphrase)
        return cls(ssid=ssid, psk=key, hidden=hidden)


class CardConfig(_Part):
    """One machine. Its host name is its node id."""

    id: Id = Field(description="node id and host name")
    site: Id = "callboard"
    label: Line = Field(default="", description="what people read")
    tags: list[Line] = Field(default_factory=list)
    user: Annotated[str, AfterValidator(_user)] = Field(
        default="pi", description="who may log in with the keys; nobody without one"
    )
    ssh_keys: list[Annotated[str, AfterValidator(_public_key)]] = Field(default_factory=list)
    password_hash: str = Field(
        default="",
        repr=False,
        pattern=rf"^({_HASH.pattern})?$",
        description="crypt(5); lets the user log in at the console. There is none by default",
    )
    wifi: Wifi | None = None
    country: Annotated[str, _like("[A-Z]{2}", "two capital letters, as GB", check_country)] = Field(
        default="", description="ISO 3166; Wi-Fi needs one"
    )
    timezone: Annotated[
        str, _like("[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}", "as Europe/London", check_zone)
    ] = ""
    keyboard: Annotated[str, _like("[a-z]{2,8}", "the small letters of a layout, as gb")] = Field(
        default="", description="layout, as gb"
    )
    buses: list[Bus] = Field(default_factory=list)
    join: Annotated[Line, Field(repr=False)] = Field(default="", description="join code; removed once used")
    ca: str = Field(
        default="", description="certificates (PEM) of the board's authority, for other programs there"
    )
    settings: dict[str, JsonValue] = Field(
        default_factory=dict, description="of the agent, as in its TOML file, e.g. its [[sensor]] tables"
    )
    extras: list[Literal["pi"]] = Field(
        default_factory=list, description="optional parts of the agent: pi reads sensors on buses"
    )
    fetch: bool = Field(
        default=False,
        description="fetch the packages that the agent needs when the machine first has a network",
    )
    instance: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")] = Field(
        default_factory=lambda: f"callboard-{secrets.token_hex(8)}",
        description="tells one preparation of a card from the next",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.wifi is not None and not self.country:
            raise ValueError("Wi-Fi stays off without a country; give one, as GB")
        if self.extras and not self.fetch:
            raise ValueError(
                "the extra pi has parts that are built on the machine itself: it must fetch its packages"
            )
        if _has_null(self.settings):
            raise ValueError("settings: TOML has no null; leave the key out")
        if self.ca and not self.ca.isascii():
            raise ValueError("ca: should be PEM")
        return self


def _has_null(value: JsonValue) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(map(_has_null, inside))
