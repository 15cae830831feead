"""The words of ``callboard update`` and ``push``: shares, wheels, and what cannot be."""

import pytest
from typer.testing import CliRunner

from callboard_console.cli import publish, update
from callboard_console.cli.main import app
from callboard_core.errors import BadRequest


@pytest.mark.parametrize(("text", "share"), [("10%", 0.1), ("0.25", 0.25), ("0", 0), ("100%", 1)])
def test_a_share_is_a_percentage_or_a_number(text, share):
    assert update.share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["some", "", "150%", "-1", "2", "nan"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(BadRequest, match="--canary"):
        update.share(text)


def test_a_folder_without_wheels_is_refused(tmp_path):
    with pytest.raises(BadRequest, match="no wheels"):
        update._in_folder(tmp_path)


def test_wheels_that_are_given_take_the_place_of_those_of_the_same_distribution():
    given = [{"name": "callboard-0.2.0-py3-none-any.whl"}]
    others = [{"name": "callboard-0.1.0-py3-none-any.whl"}, {"name": "rich-13.0-py3-none-any.whl"}]
    found = publish._with_others(given, others)
    assert [one["name"] for one in found] == [given[0]["name"], others[1]["name"]]
    assert publish._version_of(found) == "0.2.0"


@pytest.mark.parametrize("name", ["callboard.tar.gz", "callboard-0.2.0.whl"])
def test_what_is_no_wheel_is_refused(name):
    with pytest.raises(BadRequest, match="is no wheel"):
        publish._with_others([{"name": name}], [])


def test_a_release_without_the_program_itself_is_refused():
    with pytest.raises(BadRequest, match="no wheel of callboard"):
        publish._version_of([{"name": "rich-13.0-py3-none-any.whl"}])


def test_a_file_that_is_not_there_is_named(tmp_path):
    class Nobody:
        def artifacts(self):
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    with pytest.raises(BadRequest, match="is no file"):
        publish.send_files(Nobody(), [tmp_path / "missing"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["update", "--cancel", "the last"], "--cancel 'the last' is no update's id"),
        (["update", "--resume", "3F2A9C01"], "--resume '3F2A9C01' is no update's id"),
        (["push", "pumps.py"], "name files after the node pumps.py"),
        (["push", "--all"], "name files, or one configuration"),
        (["push", "pumps.py", "x", "--settings", "y"], "name files after the node pumps.py, or one"),
    ],
)
def test_what_cannot_be_meant_is_told_before_the_board_is_asked(words, says, tmp_path):
    done = CliRunner().invoke(app, [*words, "--state", str(tmp_path)])
    assert isinstance(done.exception, BadRequest)
    assert says in done.exception.message


def test_stages_are_counted_in_the_order_they_come():
    nodes = [{"stage": stage} for stage in ("healthy", "waiting", "healthy")]
    assert update._counts(nodes) == "2 healthy, 1 waiting"
