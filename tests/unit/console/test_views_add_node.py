"""callboard_console.web.views.add_node."""

from __future__ import annotations

import re
import shlex

import pytest
from typer.main import get_command

from callboard_console.cli.main import app
from callboard_console.web.views.add_node import Card, Wish, flashing, invitation, waiting
from callboard_core.errors import BadRequest
from callboard_core.trust.enrolment import MadeJoin

NOW = 1_795_327_474.0
KEY = "ssh-ed25519 " + "A" * 68 + " ann@desk"


def made(**more):
    given = {
        "name": "blue-owl",
        "uses": 1,
        "used": 0,
        "ask": False,
        "made": NOW,
        "expires": NOW + 3600,
        "by": "ada",
    }
    return MadeJoin(code="CB2-ABC", **(given | more))


def machine(number=1, state="pending", **more):
    given = {
        "number": number, "id": "greenhouse", "state": state, "reason": "its join code asks", "label": None,
        "host": "raspberrypi", "address": "10.0.0.7", "fingerprint": "ab" * 32, "asked": NOW - 65,
    }  # fmt: skip
    return given | more


def test_a_wish_becomes_what_the_board_is_asked_for():
    assert Wish().request() == {"uses": 1, "seconds": 3600.0, "ask": False}
    wish = Wish(id="greenhouse", seconds=86_400.0, uses=3, ask=True)
    assert wish.request() == {"id": "greenhouse", "uses": 3, "seconds": 86_400.0, "ask": True}


def test_a_name_that_is_no_id_is_refused_before_a_code_is_made():
    with pytest.raises(BadRequest, match="name"):
        Wish(id="My Greenhouse").request()


def test_a_card_carries_the_join_code_and_hashes_the_wifi_password():
    card = Card(
        "greenhouse", tags="garden, pi", ssid="Home", passphrase="correct horse", country="gb", buses=("i2c",)
    )
    config = card.config(made(id="greenhouse"), "site", "PEM")
    assert (config.id, config.site, config.join, config.ca) == ("greenhouse", "site", "CB2-ABC", "PEM")
    assert (config.tags, config.country, config.buses) == (["garden", "pi"], "GB", ["i2c"])
    assert config.wifi is not None
    assert re.fullmatch("[0-9a-f]{64}", config.wifi.psk)


def test_the_command_of_a_card_makes_the_same_one_and_holds_no_password():
    card = Card(
        "greenhouse", "Green house", "garden, pi", "ann", f"{KEY}\n", "My Home", "correct horse", "gb",
        "Europe/London", ("i2c", "spi"),
    )  # fmt: skip
    command = card.command(made(id="greenhouse"))
    words = shlex.split(command)
    parsed = get_command(app).commands["flash"].make_context("flash", words[2:]).params
    wanted = card.config(made(id="greenhouse"), "site", "")
    assert (parsed["node_id"], parsed["label"], parsed["tag"]) == (wanted.id, wanted.label, wanted.tags)
    assert (parsed["user"], parsed["ssh_key"], parsed["bus"]) == (wanted.user, wanted.ssh_keys, wanted.buses)
    assert (parsed["wifi"], parsed["country"], parsed["timezone"]) == ("My Home", "GB", "Europe/London")
    assert parsed["join"] == "CB2-ABC"
    assert "correct horse" not in command
    assert "flash raspios.img.xz /dev/sdX --id n --join CB2-ABC" in flashing(Card("n").command(made()))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"id": ""}, "name"),
        ({"ssid": "Home", "passphrase": "short", "country": "GB"}, "8 to 63"),
        ({"ssid": "Home", "passphrase": "long enough"}, "country"),
        ({"ssh_key": "my password"}, "ssh_keys"),
        ({"timezone": "tea time"}, "timezone"),
    ],
)
def test_what_is_wrong_with_a_card_is_named(wrong, said):
    with pytest.raises(BadRequest, match=said):
        Card(**({"id": "greenhouse"} | wrong)).config(made(), "site", "")


def test_an_invitation_can_be_scanned_and_pasted():
    drawn = invitation(made(id="greenhouse"), NOW)
    assert "callboard node --id greenhouse --join CB2-ABC" in drawn
    assert "sudo $(command -v callboard) node --install --id greenhouse --join CB2-ABC" in drawn
    assert "<svg" in drawn
    assert "Lets in one machine, for 1 h" in drawn
    assert "accepted below" not in drawn
    assert "has to be accepted below" in invitation(made(ask=True), NOW)
    assert "expired" in invitation(made(), NOW + 4000)


def test_who_waits_comes_first_and_can_be_decided_about():
    drawn = waiting([machine(1, "accepted"), machine(2)], NOW, may_decide=True)
    assert drawn.index("waits") < drawn.index("let in")
    assert 'data-act="accept:2"' in drawn
    assert 'data-act="reject:2"' in drawn
    assert "accept:1" not in drawn
    assert "abababababababab" in drawn


def test_a_viewer_sees_who_waits_and_decides_nothing():
    assert 'data-act="accept' not in waiting([machine()], NOW, may_decide=False)


def test_nothing_that_a_machine_says_of_itself_becomes_markup():
    drawn = waiting([machine(host="<script>alert(1)</script>", label="<b>x</b>")], NOW, may_decide=True)
    assert "<script>" not in drawn
    assert "<b>x" not in drawn


def test_nobody_waits():
    assert "No machine has asked" in waiting([], NOW, may_decide=True)
