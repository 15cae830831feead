"""What must hold before any verb runs: quick help, light imports, and errors of one line."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from callboard_console.cli.failures import describe
from callboard_console.cli.main import app
from callboard_console.cli.node import CALLED
from callboard_core.errors import BadRequest, Conflict, Failed, NotFound
from callboard_core.settings import load_settings
from callboard_nodes.group import GroupFailed

HEAVY = {
    "aiohttp", "alembic", "amqtt", "argon2", "asyncio", "fastapi", "numpy", "paho", "pandas", "pydantic", "rich",
    "sqlalchemy", "streamlit", "urllib.request", "uvicorn", "zeroconf",
}  # fmt: skip

VERBS = ["up", "node", "status", "ls", "network", "watch", "set", "call", "forget", "doctor"]


def test_help_imports_nothing_heavy():
    code = (
        "import sys, json; from callboard_console.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: print(); print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert HEAVY & loaded == set()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_that_parses(verb: str):
    command = get_command(app).commands[verb]
    assert command.help
    example = command.help.partition("Example: callboard ")[2].split("   ")[0].split(" && ")[0]
    assert example.split()[0] == verb
    command.make_context(verb, [word.strip("'") for word in example.split()[1:]], resilient_parsing=False)


def test_every_option_says_what_it_is_for():
    for verb in VERBS:
        for option in get_command(app).commands[verb].params:
            assert getattr(option, "help", None) or option.metavar, f"{verb} {option.name}"


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (BadRequest("say\nplease"), "say please", 2),
        (NotFound("no node"), "no node", 1),
        (GroupFailed("board", BadRequest("bad url")), "board: bad url", 2),
        (GroupFailed("board", Failed("no bread")), "board: no bread", 1),
        (OSError(errno.ENOSPC, "No space", "/x"), "/x: no space is left on its disk", 1),
        (OSError(errno.EROFS, "Read-only", "/x"), "/x: it is on a read-only file system", 1),
        (OSError(errno.EBADMSG, "Bad message"), "Bad message", 1),
        (Conflict("taken"), "taken", 1),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(error: Exception, line: str, code: int):
    told, exit_code = describe(error)
    assert told.startswith(line)
    assert "\n" not in told
    assert exit_code == code


@pytest.mark.parametrize(
    "arguments",
    [["up", "--no-such-option"], ["up", "--mqtt-port", "70000"], ["dance"], ["set", "a/b"], ["ls", "cats"]],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]):
    done = subprocess.run(
        [sys.executable, "-m", "callboard_console.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Error" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["up", "node"])
def test_an_id_that_is_none_is_told_with_an_option_that_there_is(verb: str, tmp_path: Path):
    with pytest.raises(BadRequest, match="Change --node-id"):
        load_settings(env={}, flags={"state": tmp_path, "node.id": "Not An Id"})
    command = get_command(app).commands[verb]
    assert any("--node-id" in option.opts for option in command.params)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--id", "Not An Id"], "--id"),
        (["--keepalive", "0"], "--keepalive"),
        (["--board", "http://x"], "--board"),
    ],
)
def test_a_bad_option_of_a_node_is_named_as_it_was_typed(words: list[str], named: str):
    done = CliRunner().invoke(app, ["node", *words])
    assert isinstance(done.exception, BadRequest)
    assert f"Change {named} " in f"{done.exception.message} "


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--install", "--id", "Not An Id"], "Change --id "),
        (["--install", "--keepalive", "0"], "Change --keepalive "),
        (["--install", "--slots", "blender=x"], "--slots: 'blender=x' cannot be read"),
        (["--install", "--uninstall"], "--install and --uninstall are opposites"),
        (["--install", "pumps.py"], "--install takes no FILE"),
        (["--install", "--module", "pumps.py"], "--install takes no --module"),
        (["--install", "--join-file", "code"], "--install takes no --join-file"),
        (["--wheels", "folder"], "--wheels is for --install"),
        (["--keep-state", "--install"], "--keep-state is for --uninstall"),
    ],
)
def test_what_does_not_go_together_with_installing_is_told_and_nothing_is_done(
    words: list[str], says: str, tmp_path: Path
):
    done = CliRunner().invoke(app, ["node", "--root", str(tmp_path), *words])
    assert isinstance(done.exception, BadRequest)
    assert says in f"{done.exception.message} "
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_no_node_can_be_installed_is_told_with_what_to_do(tmp_path: Path):
    (tmp_path / "opt").write_text("a file")
    done = CliRunner().invoke(app, ["node", "--install", "--root", str(tmp_path)])
    assert isinstance(done.exception, Failed)
    assert f"{tmp_path}/opt/callboard cannot be written: Not a directory; " in done.exception.message
    assert "--state" not in done.exception.message


def test_every_option_of_a_node_is_called_as_it_is():
    there = {name for option in get_command(app).commands["node"].params for name in option.opts}
    assert set(CALLED.values()) <= there


def test_completion_can_be_shown_for_bash():
    done = subprocess.run(
        [Path(sys.executable).with_name("callboard")],
        env={
            "_CALLBOARD_COMPLETE": "complete_bash",
            "COMP_WORDS": "callboard st",
            "COMP_CWORD": "1",
            "PATH": "",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "status" in done.stdout


def test_variables_of_the_command_line_are_no_unknown_settings():
    from callboard_console.cli import options
    from callboard_core.settings import model

    assert {options.USERNAME_VARIABLE, options.PASSWORD_FILE_VARIABLE} == set(model.LOGIN_VARIABLES)
