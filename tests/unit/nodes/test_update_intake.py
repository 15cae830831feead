"""What a node says to an update before it fetches anything."""

from types import SimpleNamespace

import pytest
from pydantic import JsonValue

from callboard_core.errors import Conflict, Forbidden, Unauthorized
from callboard_core.settings import Settings
from callboard_core.trust.signing import new_signing_key, public_key_of, sign
from callboard_core.updates import Content, Manifest, Signed, Stage
from callboard_nodes.install.layout import Layout
from callboard_nodes.update.intake import Intake
from callboard_nodes.update.rollback import Book, Journal

KEY = new_signing_key()
WHEEL = Content(name="callboard-99.0-py3-none-any.whl", sha256="0" * 64, size=1)


def signed(*, key: str = KEY, name: str = "one.pi", **changes: JsonValue) -> Signed:
    chosen = {
        "site": "callboard",
        "number": 7,
        "kind": "release",
        "created": 1.0,
        "version": "99.0",
        "files": [WHEEL],
    }
    text = Manifest(**{**chosen, **changes}).model_dump_json()
    return Signed(id=name, manifest=text, signature=sign(key, text.encode()))


@pytest.fixture
def layout(tmp_path):
    """A node that is installed, and whose root trusts a board."""
    Book(tmp_path).trust(public_key_of(KEY))
    return Layout(tmp_path)


def intake(layout, *, key: str | None = public_key_of(KEY), allow=("update",)):
    settings = Settings(state=layout.state, node={"id": "pi", "allow": list(allow)})
    desk = SimpleNamespace(link=SimpleNamespace(site="callboard"))
    return Intake(desk, settings, layout, key=None if key is None else lambda: key)


def take(found, update):
    return found.take(SimpleNamespace(args=update.model_dump()))


def test_an_update_is_on_the_disk_before_it_is_accepted_and_only_once(layout):
    found = intake(layout)
    assert take(found, signed())["stage"] == "fetching"
    assert (layout.inbox / "wanted.json").stat().st_mode & 0o077 == 0
    assert take(intake(layout), signed())["stage"] == "fetching"
    with pytest.raises(Conflict, match="another update is under way"):
        take(found, signed(name="two.pi", number=8))


def test_another_key_or_none_is_refused(layout):
    with pytest.raises(
        Unauthorized, match=r"signature is not the board's.*sudo callboard node --install --join CODE"
    ):
        take(intake(layout), signed(key=new_signing_key()))
    with pytest.raises(Unauthorized, match="has not joined a board"):
        take(intake(layout, key=None), signed())
    assert not layout.inbox.exists()


@pytest.mark.parametrize(
    ("pinned", "says"), [("", "knows no board"), ("b" * 44, "trusts the updates of another")]
)
def test_what_root_would_not_take_is_not_even_fetched(layout, pinned, says):
    layout.pins.unlink()
    if pinned:
        Book(layout.root).trust(pinned)
    with pytest.raises(Unauthorized, match=rf"{says}.*callboard node --install --join CODE"):
        take(intake(layout), signed())
    assert not layout.inbox.exists()


def test_a_board_with_a_new_key_is_obeyed_once_root_has_it_from_a_new_code(layout):
    new = new_signing_key()
    found = intake(layout)
    with pytest.raises(Unauthorized, match="another update key now"):
        take(found, signed(key=new))
    Book(layout.root).trust(public_key_of(new))
    with pytest.raises(Unauthorized, match="trusts the updates of another board"):
        take(found, signed())
    assert take(found, signed(key=new))["stage"] == "fetching"


def test_what_the_node_does_not_allow_is_refused(layout):
    with pytest.raises(Forbidden, match="push is not in its"):
        take(intake(layout), signed(kind="config", version=""))
    with pytest.raises(Forbidden, match="update is not in its"):
        take(intake(layout, allow=("push",)), signed())


def test_while_one_is_on_trial_another_is_refused(layout):
    Book(layout.root).write(Journal(id="old.pi", number=6, kind="release", state="trial"))
    with pytest.raises(Conflict, match="under way"):
        take(intake(layout), signed())
    assert take(intake(layout), signed(name="old.pi"))["stage"] == Stage.TRIAL


def test_a_node_that_has_it_already_says_so_at_once(layout):
    Book(layout.root).pin({"release": 7})
    assert take(intake(layout), signed())["stage"] == "healthy"
    with pytest.raises(Conflict, match="not newer than 7"):
        take(intake(layout), signed(number=6))


def test_an_update_for_other_nodes_is_refused(layout):
    with pytest.raises(Forbidden, match="for other nodes"):
        take(intake(layout), signed(nodes=["elsewhere"]))


def test_the_process_that_an_update_is_about_to_replace_does_not_say_that_the_update_is_well(layout):
    found, book = intake(layout), Book(layout.root)
    found._desk.presence = SimpleNamespace(state=lambda *_: None)
    found._desk.link.round_trip = lambda _: SimpleNamespace(result=lambda: None)
    found._since = 0.0  # on the board since the machine was started
    switching = Journal(id="new.pi", number=7, kind="config", state="switching", well_for=0.0)
    book.write(switching)
    found._turn()
    assert not layout.health.exists()
    book.write(switching.after("switched"))
    found._turn()
    assert layout.health.exists()
