"""``callboard flash`` from its options to the card: what is checked before anything is written, and what is asked."""

import base64
import io
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from callboard_console.cli import flash_cards, flash_config
from callboard_console.cli.main import app
from callboard_core.errors import BadRequest, CallboardError, Failed, Forbidden
from callboard_core.trust import JoinCode
from callboard_nodes.flash.facts import Device, Machine
from support import cards, fat
from support.root import needs_root
from support.wheels import made

pytestmark = fat.needs_fat
KEY = "ssh-ed25519 " + "A" * 68 + " ann@desk"
UPDATE_KEY = base64.b64encode(b"k" * 32).decode()
CODE = JoinCode("farm", ("192.168.1.2:8443",), "ab" * 32, UPDATE_KEY, "cd" * 16, 4_000_000_000).text


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return cards.make(tmp_path_factory.mktemp("card") / "card.img")


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder with wheels, in place of the network."""
    folder = tmp_path / "packages"
    folder.mkdir()
    made(folder, "needed", "1.0")
    monkeypatch.setattr("callboard_nodes.flash.wheels.requirements", lambda _target: ["needed"])
    return folder


@pytest.fixture(autouse=True)
def own(monkeypatch):
    """Our own wheel, which takes a second to pack."""
    monkeypatch.setattr("callboard_nodes.flash.wheels.own", lambda: {"callboard-1-py3-none-any.whl": b"ours"})
    monkeypatch.setattr(flash_cards, "own", lambda: {"callboard-1-py3-none-any.whl": b"ours"})


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


def inside(folder):
    return [file.name for file in folder.iterdir()]


def flash(*words, answers=""):
    """Run the command; returns what it printed, or raises the error that ``main`` would show."""
    result = CliRunner().invoke(app, ["flash", *map(str, words)], input=answers)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_help_has_an_example_that_parses_and_a_word_for_every_option():
    command = get_command(app).commands["flash"]
    words = shlex.split(" ".join(command.help.partition("Example: callboard ")[2].split()))
    command.make_context("flash", words[1:], resilient_parsing=False)
    assert all(getattr(option, "help", None) for option in command.params)


def test_a_card_gets_what_the_options_say(image, packages, tmp_path):
    (tmp_path / "wifi").write_text("correct horse\n")
    (tmp_path / "node.toml").write_text(
        '[node]\nkeepalive = 20\n[[sensor]]\ndriver = "bme280"\nname = "air"\n'
    )
    out = tmp_path / "out.img"
    options = {
        "--id": "greenhouse", "--label": "Green house", "--user": "ann", "--ssh-key": KEY, "--wifi": "home",
        "--wifi-password-file": tmp_path / "wifi", "--country": "GB", "--bus": "i2c", "--join": CODE,
        "--settings": tmp_path / "node.toml", "--wheels": packages,
    }  # fmt: skip
    done = flash(image, out, *[word for pair in options.items() for word in pair])
    assert done.stdout == f"{out} is the card of greenhouse\n"
    settings = cards.boot(out, "callboard/callboard.toml").decode()
    assert 'site = "farm"' in settings
    assert "keepalive = 20" in settings
    assert cards.boot(out, "callboard/join").decode().strip() == CODE
    assert KEY.encode() in cards.boot(out, "user-data")
    assert b"home" in cards.boot(out, "network-config")
    assert b"dtparam=i2c_arm=on" in cards.boot(out, "config.txt")
    needed = "needed-1.0-py3-none-any.whl"
    assert cards.boot(out, f"callboard/wheels/{needed}") == (packages / needed).read_bytes()
    assert cards.boot(out, "callboard/wheels/callboard-1-py3-none-any.whl") == b"ours"


def test_a_node_that_fetches_its_packages_gets_ours_only(image, tmp_path):
    flash(image, tmp_path / "out.img", "--id", "n", "--no-join", "--no-wheels")
    found = {name for name in cards.names(tmp_path / "out.img") if name.endswith(".whl")}
    assert found == {"callboard/wheels/callboard-1-py3-none-any.whl"}
    assert b"pip wheel" in cards.boot(tmp_path / "out.img", "callboard/setup.sh")


def test_a_mounted_card_is_prepared_where_it_is(packages, tmp_path):
    folder = tmp_path / "bootfs"
    folder.mkdir()
    for name, data in cards.TRIXIE.items():
        (folder / name).write_bytes(data)
    done = flash(folder, "--id", "n", "--no-join", "--wheels", packages)
    assert done.stdout == f"{folder} is the card of n; it has no join code\n"
    assert (folder / "callboard" / "setup.sh").exists()


def test_who_watches_sees_how_far_each_step_is(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.stderr", screen := Screen())
    with flash_cards._Bars() as bars:
        bars.tell("write", 24 * cards.MIB, 48 * cards.MIB)
        bars.tell("verify", 1, 2)
    assert "writing" in screen.getvalue()
    assert "25.2/50.3 MB" in screen.getvalue()
    assert "reading back" in screen.getvalue()
    monkeypatch.setattr("sys.stderr", quiet := io.StringIO())
    with flash_cards._Bars() as bars:
        bars.tell("write", 1, 2)
    assert quiet.getvalue() == ""


def test_a_console_password_is_hashed(image, packages, tmp_path):
    (tmp_path / "password").write_text("opensesame\n")
    words = ("--id", "n", "--no-join", "--wheels", packages, "--console-password-file", tmp_path / "password")
    flash(image, tmp_path / "out.img", *words)
    data = cards.boot(tmp_path / "out.img", "user-data")
    assert b'"passwd": "$6$' in data
    assert b"opensesame" not in data


def test_each_card_of_a_fleet_gets_a_join_code_of_its_own(image, packages, tmp_path, monkeypatch):
    asked = []

    class Api:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def post(self, where, body):
            asked.append((where, body))
            code = JoinCode("farm", ("b:1",), "ab" * 32, UPDATE_KEY, f"{len(asked):032x}", 4_000_000_000)
            return {"code": code.text}

        def blocks(self, where):
            return iter([f"authorities of {where}\n".encode()])

    monkeypatch.setattr(flash_config, "open_board", lambda _access, _role: Api())
    table = tmp_path / "nodes.csv"
    table.write_text(f"id,join\none,\ntwo,{CODE}\nthree,\n")
    out = tmp_path / "cards"
    out.mkdir()
    flash(cards.pack_xz(image), out, "--fleet", table, "--wheels", packages, "--join-expires", "2d")
    assert sorted(inside(out)) == ["one.img", "three.img", "two.img"]
    assert [(where, body["id"], body["uses"], body["seconds"]) for where, body in asked] == [
        ("/api/v1/joins", "one", 1, 172_800),
        ("/api/v1/joins", "three", 1, 172_800),
    ]
    codes = {name: cards.boot(out / f"{name}.img", "callboard/join") for name in ("one", "two", "three")}
    assert len(set(codes.values())) == 3
    assert codes["two"].decode().strip() == CODE
    assert cards.boot(out / "one.img", "callboard/ca.pem") == b"authorities of /api/v1/trust/ca\n"


def test_a_fleet_with_one_wrong_row_writes_no_card(image, packages, tmp_path):
    table = tmp_path / "nodes.csv"
    table.write_text("id,country\none,GB\ntwo,England\n")
    out = tmp_path / "cards"
    out.mkdir()
    with pytest.raises(BadRequest, match=r"row 3 \(two\), column country"):
        flash(image, out, "--fleet", table, "--no-join", "--wheels", packages)
    table.write_text("id,settings\none,\ntwo,two.toml\n".replace("two.toml", str(tmp_path / "two.toml")))
    (tmp_path / "two.toml").write_text("[node]\nkeepaliv = 3\n")
    with pytest.raises(BadRequest, match=r"two: unknown key 'node.keepaliv'"):
        flash(image, out, "--fleet", table, "--no-join", "--wheels", packages)
    assert inside(out) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name an image"),
        (["missing.img", "out.img", "--id", "n"], "there is no image"),
        (["IMAGE", "--id", "n"], "name what to write"),
        (["IMAGE", "out.img"], "--id"),
        (["IMAGE", ".", "--id", "n"], "is a folder"),
        (["IMAGE", "IMAGE", "--id", "n"], "the image itself"),
        (["IMAGE", "/dev/no-card", "--id", "n"], "there is no card /dev/no-card; .* --list"),
        (["IMAGE", "/dev/null", "--id", "n"], "/dev/null is neither a file nor a card"),
        (["IMAGE", "nowhere/out.img", "--id", "n"], "there is no folder .*nowhere"),
        ([".", "out.img", "--id", "n"], "leave the target"),
        (["IMAGE", "out.img", "--id", "Not An Id"], "^--id: id 'Not An Id'"),
        (["IMAGE", "out.img", "--id", "n", "--country", "England"], "^--country: should be two"),
        (["IMAGE", "out.img", "--id", "n", "--bus", "uart"], "^--bus: Input should be 'i2c'"),
        (["IMAGE", "out.img", "--id", "n", "--no-join", "--join", CODE], "--join and --no-join do not go"),
        (
            ["IMAGE", "out.img", "--id", "n", "--no-wheels", "--wheels", "."],
            "--wheels and --no-wheels do not go",
        ),
        (["IMAGE", "out.img", "--id", "n", "--wifi-hidden"], "--wifi-hidden goes with --wifi"),
        (["IMAGE", "out.img", "--id", "n", "--join-expires", "400d"], "--join-expires '400d': .* 366 days"),
        ([".", "--id", "n", "--sha256", "0" * 64], "--sha256 is of an image"),
        (["IMAGE", "out.img", "--id", "n", "--join", "CB2-WRONG"], "mistyped"),
        (["IMAGE", "out.img", "--id", "n", "--sha256", "0" * 64], "download it again"),
        (["IMAGE", "out.img", "--id", "n", "--ssh-key", "/none"], "/none"),
        (["IMAGE", "out.img", "--fleet", "none.csv"], "cannot read the table"),
        (["IMAGE", "out.img", "--fleet", "none.csv", "--id", "n"], "for one card"),
        (["IMAGE", "out.img", "--id", "n", "--extra", "pi"], "must fetch"),
        (["IMAGE", "out.img", "--id", "n", "--no-join", "--wheels", "nowhere"], "no wheels in nowhere"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_written(image, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadRequest, match=message):
        flash(*[image if word == "IMAGE" else word for word in words])
    assert inside(tmp_path) == []


def test_without_a_board_it_says_what_else_to_do(image, tmp_path):
    words = ("--id", "n", "--state", tmp_path / "none", "--board", "mqtt://127.0.0.1:1", "--username", "x")
    (tmp_path / "password").write_text("x\n")
    with pytest.raises(CallboardError, match="or give a join code with --join, or none with --no-join"):
        flash(image, tmp_path / "out.img", *words, "--password-file", tmp_path / "password")
    assert not (tmp_path / "out.img").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("size=1m", "No space left on device; free some room"),
        ("ro", "Read-only file system; push the switch"),
    ],
)
@needs_root
def test_what_cannot_be_written_is_told_with_a_remedy_and_nothing_is_left_of_it(
    image, packages, tmp_path, options, says
):
    place = tmp_path / "place"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        words = (image, place / "out.img", "--id", "n", "--no-join", "--wheels", packages)
        with pytest.raises(Failed, match=f"out.img cannot be written: {says}"):
            flash(*words)
        assert inside(place) == []
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_an_image_is_replaced_only_when_somebody_says_so(image, packages, tmp_path):
    out = tmp_path / "out.img"
    out.write_bytes(b"precious")
    words = (image, out, "--id", "n", "--no-join", "--wheels", packages)
    assert flash(*words, answers="n\n").exit_code == 1
    assert out.read_bytes() == b"precious"
    assert flash(*words, answers="y\n").exit_code == 0
    assert out.stat().st_size == cards.SIZE


# A device: real, of a file; the facts about it made up, as no loop device may be overwritten.


@pytest.fixture
def loop(tmp_path, monkeypatch):
    file = tmp_path / "disk"
    with file.open("wb") as handle:
        handle.truncate(50 * cards.MIB)
    done = subprocess.run(
        ["losetup", "--find", "--show", str(file)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no loop devices here: {done.stderr.strip()}")
    path = Path(done.stdout.strip())
    monkeypatch.setattr(flash_cards, "check_safe", lambda _device, _machine: None)
    yield path
    subprocess.run(["losetup", "--detach", str(path)], check=True)


def test_a_device_is_overwritten_once_its_name_is_typed(image, packages, loop):
    words = (image, loop, "--id", "n", "--no-join", "--wheels", packages)
    for wrong in ("y\n", "sda\n", "\n\n"):
        with pytest.raises((BadRequest, AssertionError)):
            assert flash(*words, answers=wrong).exit_code == 0
        assert loop.read_bytes()[:512] == bytes(512)
    done = flash(*words, answers=f"{loop.name}\n")
    assert "all of it is lost" in done.stderr
    assert loop.read_bytes()[510:512] == b"\x55\xaa"


def test_a_fleet_goes_onto_one_card_after_another(image, packages, loop, tmp_path):
    table = tmp_path / "nodes.csv"
    table.write_text("id\none\ntwo\n")
    words = (image, loop, "--fleet", table, "--no-join", "--wheels", packages)
    done = flash(*words, answers=f"\n{loop.name}\n\n{loop.name}\n")
    assert f"{loop} is the card of one;" in done.stdout
    assert f"{loop} is the card of two;" in done.stdout
    assert "Put in the card for two" in done.stderr


def test_yes_alone_overwrites_no_device(image, packages, loop):
    words = (image, loop, "--id", "n", "--no-join", "--wheels", packages, "--yes")
    with pytest.raises(BadRequest, match="only with --serial"):
        flash(*words)
    with pytest.raises(BadRequest, match="no serial number"):
        flash(*words, "--serial", "1")
    assert loop.read_bytes()[:512] == bytes(512)


def test_a_loop_device_is_no_card(image, packages, loop, monkeypatch):
    from callboard_nodes.flash.safety import check_safe

    monkeypatch.setattr(flash_cards, "check_safe", check_safe)
    with pytest.raises(Forbidden, match="it is no card"):
        flash(image, loop, "--id", "n", "--no-join", "--wheels", packages)


def test_disks_are_listed_with_what_is_against_them(monkeypatch):
    machine = Machine(mounts=(("sda", "/"),), swaps=(), below={})
    disk = Device("sda", "8:0", 10**12, False, "ata", "Disk", "1", False)
    card = Device("sdb", "8:16", 32 * 10**9, True, "usb", "Reader", "2", False)
    monkeypatch.setattr(flash_cards, "read_machine", lambda: machine)
    monkeypatch.setattr(
        flash_cards, "read_device", lambda name: {0: disk, 1: card}.get(len(seen.append(name) or seen) - 1)
    )
    seen = []
    out = flash("--list").stdout.splitlines()
    assert out[0].split("\t") == ["device", "size", "model", "serial", "why not"]
    assert out[1].startswith("/dev/sda\t1000.0 GB\tDisk\t1\tit is not removable")
