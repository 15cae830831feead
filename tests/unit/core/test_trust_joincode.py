"""Join codes survive being pasted, typed and scanned, and say what is wrong when they do not."""

from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_core.addresses import join_address, split_address
from callboard_core.errors import BadRequest, Expired
from callboard_core.trust import JoinCode
from callboard_core.trust.joincode import _check_sum

HOUR = 3_600


def code(**other: object) -> JoinCode:
    values: dict[str, object] = {
        "site": "callboard",
        "addresses": ("192.168.1.10:8443", "[fd00::2]:8443", "board.local:8443"),
        "authority": "ab" * 32,
        "update_key": base64.b64encode(b"k" * 32).decode(),
        "token": "cd" * 16,
        "expires": 1_800_000_000,
    }
    return JoinCode(**(values | other))  # type: ignore[arg-type]


_SITES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
_NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,30}[a-z0-9](\.[a-z0-9]{1,20})?", fullmatch=True)
_HOSTS = st.one_of(st.ip_addresses().map(str), _NAMES)
_ADDRESSES = st.tuples(_HOSTS, st.integers(1, 65_535)).map(lambda one: join_address(*one))
CODES = st.builds(
    JoinCode,
    site=_SITES,
    addresses=st.lists(_ADDRESSES, min_size=1, max_size=8).map(tuple),
    authority=st.binary(min_size=32, max_size=32).map(bytes.hex),
    update_key=st.binary(min_size=32, max_size=32).map(lambda key: base64.b64encode(key).decode()),
    token=st.binary(min_size=16, max_size=16).map(bytes.hex),
    expires=st.integers(0, 2**32 - 1),
)


@given(CODES)
def test_what_is_read_is_what_was_written(made: JoinCode) -> None:
    assert JoinCode.parse(made.text) == made


@given(CODES, st.randoms(use_true_random=False))
def test_case_spaces_and_line_breaks_do_not_matter(made: JoinCode, chance: random.Random) -> None:
    pasted = "".join(
        letter.lower() + chance.choice(["", "", "", " ", "\n", "\r\n  "]) for letter in made.text
    )
    assert JoinCode.parse(pasted) == made


@given(CODES, st.data())
def test_every_single_wrong_letter_is_found(made: JoinCode, data: st.DataObject) -> None:
    at = data.draw(st.integers(4, len(made.text) - 2))  # the last letter may hold unused bits
    other = data.draw(
        st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567").filter(lambda x: x != made.text[at])
    )
    with pytest.raises(BadRequest, match="mistyped"):
        JoinCode.parse(made.text[:at] + other + made.text[at + 1 :])


@given(CODES, st.data())
def test_a_part_of_a_code_is_said_to_be_one(made: JoinCode, data: st.DataObject) -> None:
    with pytest.raises(BadRequest, match=r"mistyped|missing"):
        JoinCode.parse(made.text[: data.draw(st.integers(4, len(made.text) - 1))])


@given(st.text(max_size=300).map(lambda text: "CB2-" + text) | st.text(max_size=50))
def test_any_other_text_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(BadRequest, match=r"callboard join|same version"):
        JoinCode.parse(text)


@given(st.binary(max_size=300))
def test_nonsense_with_a_right_check_sum_is_refused(body: bytes) -> None:
    text = "CB2-" + base64.b32encode(body + _check_sum(body)).decode().rstrip("=")
    try:
        again = JoinCode.parse(text)
    except BadRequest:
        return
    assert JoinCode.parse(again.text) == again


def test_a_code_of_another_version_says_so() -> None:
    with pytest.raises(BadRequest, match="version 1"):
        JoinCode.parse(code().text.replace("CB2-", "CB1-"))


def test_digits_that_are_not_in_a_code_are_named() -> None:
    with pytest.raises(BadRequest, match="'0' cannot be in it"):
        JoinCode.parse(code().text + "0")


def test_an_expired_code_can_be_read_and_says_when_it_expired() -> None:
    made = code(expires=HOUR)
    made.check(now=HOUR - 1)
    with pytest.raises(Expired, match="1970-01-01 01:00 UTC"):
        JoinCode.parse(made.text).check(now=HOUR)
    with pytest.raises(Expired):
        made.check()


def test_a_usual_code_fits_into_three_lines_and_needs_upper_case_and_digits_only() -> None:
    text = code(addresses=("192.168.1.10:8443", "10.0.0.1:8443")).text
    assert len(text) <= 200
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")


def test_the_token_is_not_shown_by_accident() -> None:
    assert "cdcd" not in repr(code())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"site": "Not An Id"}, "site"),
        ({"addresses": ()}, "1 to 8 addresses"),
        ({"addresses": ("host",)}, "host:port"),
        ({"addresses": ("host:0",)}, "host:port"),
        ({"addresses": ("fd00::2:8443",)}, "host:port"),
        ({"addresses": ("[host]:1",)}, "host:port"),
        ({"addresses": ("a b:1",)}, "host:port"),
        ({"authority": "ab"}, "64 hexadecimal"),
        ({"update_key": "ab" * 32}, "base64 of 32 bytes"),
        ({"update_key": base64.b64encode(b"k" * 32).decode().replace("=", "")}, "base64 of 32 bytes"),
        ({"token": "zz" * 16}, "32 hexadecimal"),
        ({"expires": 2**32}, "2106"),
    ],
)
def test_what_cannot_be_written_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        code(**wrong)


def test_addresses_have_one_spelling() -> None:
    assert split_address("[FD00:0::2]:8443") == ("fd00::2", 8443)
    assert split_address("Board.LOCAL:1") == ("board.local", 1)
    assert join_address("fd00::2", 8443) == "[fd00::2]:8443"
