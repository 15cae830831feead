"""The files of a boot partition are what the programs that read them take, and say what the config says."""

import io
import json
import re
import shutil
import subprocess
import tomllib
import zipfile

import pytest
from pydantic import ValidationError

from callboard_core.boot import CardConfig, Wifi, boot_files, boot_zip, detect_format, psk
from callboard_core.boot.edits import edit_cmdline, edit_config
from callboard_core.boot.setup import agent_settings
from callboard_core.errors import BadRequest

KEY = "ssh-ed25519 " + "A" * 68 + " ann@desk"
CMDLINE = b"console=serial0,115200 console=tty1 root=PARTUUID=35684e8a-02 rootfstype=ext4 rootwait\n"
CONFIG = b"# See http://rptl.io/configtxt\n#dtparam=i2c_arm=on\narm_64bit=1\n[cm4]\notg_mode=1\n"
FOUND = {"cmdline.txt": CMDLINE, "config.txt": CONFIG}
FULL = CardConfig(
    id="greenhouse",
    site="farm",
    label="Gewächshaus 'Süd' \"1\"",
    tags=["greenhouse", "$(reboot)"],
    user="ann",
    ssh_keys=[KEY],
    wifi=Wifi.of('Ann\'s "café"; $(reboot)', "correct horse"),
    country="GB",
    timezone="Europe/London",
    keyboard="gb",
    buses=["i2c", "spi", "1-wire"],
    join="CB2-ABCDEF",
    ca="-----BEGIN CERTIFICATE-----\n",
    settings={"sensor": [{"driver": "bme280", "name": "air"}], "node": {"keepalive": 20}},
    instance="callboard-1",
)
BARE = CardConfig(id="n", instance="callboard-2")
each_format = pytest.mark.parametrize("form", ["cloudinit", "firstrun"])
each_config = pytest.mark.parametrize(
    "config", [FULL, BARE, FULL.model_copy(update={"fetch": True, "extras": ["pi"]})]
)


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_passphrase_becomes_the_key_that_the_standard_says():
    # IEEE 802.11-2020, annex J.4.2, the first two test vectors.
    assert psk("IEEE", "password") == "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"
    assert (
        psk("ThisIsASSID", "ThisIsAPassword")
        == "0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af"
    )


@pytest.mark.parametrize("passphrase", ["short", "x" * 65, "umlaut-ä-in-it"])
def test_a_passphrase_that_no_network_can_have_is_refused(passphrase):
    with pytest.raises(BadRequest, match="8 to 63"):
        Wifi.of("home", passphrase)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "Not An Id"),
        ("user", "root"),
        ("user", "callboard"),
        ("user", "$(reboot)"),
        ("ssh_keys", ["-----BEGIN OPENSSH PRIVATE KEY-----"]),
        ("ssh_keys", [KEY + "\nssh-rsa BBBB"]),
        ("label", "two\nlines"),
        ("password_hash", "secret"),
        ("country", "England"),
        ("timezone", "../../etc/passwd"),
        ("keyboard", "gb; reboot"),
        ("instance", "a b"),
        ("buses", ["uart"]),
        ("wifi", Wifi(ssid="x")),
        ("extras", ["pi"]),
        ("settings", {"sensor": [{"name": None}]}),
        ("colour", "red"),
    ],
)
def test_what_makes_no_sense_is_refused(field, value):
    with pytest.raises(ValidationError):
        CardConfig(**{"id": "n", field: value})


@needs("cloud-init")
@each_config
def test_cloud_init_takes_the_user_data(tmp_path, config):
    file = tmp_path / "user-data"
    file.write_bytes(boot_files(config)["user-data"])
    assert "Valid" in run("cloud-init", "schema", "--config-file", str(file))


def test_nobody_logs_in_with_a_password_unless_asked():
    data = json.loads(boot_files(FULL)["user-data"].partition(b"\n")[2])
    assert data["ssh_pwauth"] is False
    assert data["user"]["lock_passwd"] is True
    assert "passwd" not in data["user"]
    hashed = "$6$" + "a" * 86
    data = json.loads(
        boot_files(FULL.model_copy(update={"password_hash": hashed}))["user-data"].partition(b"\n")[2]
    )
    assert data["user"] | {"ssh_authorized_keys": []} == {
        "name": "ann",
        "lock_passwd": False,
        "passwd": hashed,
        "sudo": None,
        "ssh_authorized_keys": [],
    }


@each_format
def test_a_wifi_passphrase_is_nowhere(form):
    files = boot_files(FULL, form, FOUND)
    assert b"correct horse" not in b"".join(files.values())
    assert FULL.wifi.psk.encode() in b"".join(files.values())


@each_format
def test_a_join_code_is_in_its_own_file_only(form):
    files = boot_files(FULL, form, FOUND)
    assert [name for name, content in files.items() if b"CB2-ABCDEF" in content] == ["callboard/join"]


@needs("shellcheck")
@each_config
def test_scripts_please_shellcheck(tmp_path, config):
    files = boot_files(config) | boot_files(config, "firstrun")
    for name in ("callboard/setup.sh", "firstrun.sh"):
        file = tmp_path / name.replace("/", "-")
        file.write_bytes(files[name])
        run("shellcheck", str(file))


def shell_words(line):
    """The words as a real shell takes them."""
    return run("bash", "-c", f"printf '%s\\n' {line}").splitlines()


def test_the_first_run_gives_user_and_keys_as_they_are():
    script = boot_files(FULL, "firstrun")["firstrun.sh"].decode()
    line = next(line for line in script.splitlines() if "enable_ssh" in line)
    assert shell_words(line) == ["custom", "enable_ssh", "-k", KEY]
    assert "/usr/lib/userconf-pi/userconf ann '!'" in script
    ssid = re.search(r"^ssid=([0-9;]+)$", script, re.MULTILINE)[1]
    assert bytes(map(int, ssid.split(";")[:-1])).decode() == FULL.wifi.ssid


@needs("systemd-analyze")
@each_config
def test_systemd_takes_the_unit_that_the_script_writes(tmp_path, config):
    script = boot_files(config)["callboard/setup.sh"].decode()
    text = re.search(r"<<END\n(.*?)END\n", script, re.DOTALL)[1].replace("$here", "/boot/firmware/callboard")
    unit = tmp_path / "callboard-setup.service"
    unit.write_text(text)
    # Units that these tests did not write may have faults of their own.
    said = run("systemd-analyze", "verify", "--recursive-errors=no", str(unit))
    assert "callboard-setup" not in said


def test_the_agent_finds_its_settings():
    table = tomllib.loads(boot_files(FULL)["callboard/callboard.toml"].decode())
    assert table == {
        "site": "farm",
        "sensor": [{"driver": "bme280", "name": "air"}],
        "node": {
            "keepalive": 20,
            "id": "greenhouse",
            "label": FULL.label,
            "tags": FULL.tags,
            "join_file": "/etc/callboard/join",
        },
    }
    assert table == agent_settings(FULL)


def test_the_command_line_of_the_kernel_stays_one_line_and_keeps_its_words():
    for form in ("cloudinit", "firstrun"):
        new = boot_files(FULL, form, FOUND)["cmdline.txt"]
        assert new.startswith(CMDLINE.rstrip())
        assert new.count(b"\n") == 1
        assert b" cfg80211.ieee80211_regdom=GB" in new


def test_a_card_that_is_prepared_anew_has_one_instance():
    new = edit_cmdline("root=x ds=nocloud;i=old quiet", ["ds=nocloud;i=new"])
    assert new == "root=x quiet ds=nocloud;i=new\n"


@each_format
@each_config
def test_preparing_a_card_again_changes_nothing(form, config):
    once = boot_files(config, form, FOUND)
    assert boot_files(config, form, once) == once


def test_the_buses_come_last_and_for_every_model():
    new = boot_files(FULL, "cloudinit", FOUND)["config.txt"].decode()
    assert new.startswith(CONFIG.decode())
    assert new.removeprefix(CONFIG.decode()).split() == [
        *("#", "callboard:", "buses", "[all]", "dtparam=i2c_arm=on", "dtparam=spi=on"),
        *("dtoverlay=w1-gpio", "#", "callboard:", "end"),
    ]


def test_buses_that_are_no_longer_wanted_are_taken_back():
    assert edit_config(edit_config(CONFIG.decode(), ["spi"]), []) == CONFIG.decode()
    assert edit_config(edit_config(CONFIG.decode(), ["spi"]), ["i2c"]) == edit_config(
        CONFIG.decode(), ["i2c"]
    )


def test_files_that_are_not_there_are_not_invented():
    assert not {"cmdline.txt", "config.txt"} & boot_files(FULL).keys()


def test_bytes_that_are_no_utf8_survive_in_what_is_edited():
    found = {"config.txt": b"# caf\xe9\n", "cmdline.txt": CMDLINE}
    assert boot_files(FULL, "cloudinit", found)["config.txt"].startswith(b"# caf\xe9\n")


@pytest.mark.parametrize(
    ("names", "form"),
    [
        (["cmdline.txt", "config.txt", "user-data", "meta-data", "network-config"], "cloudinit"),
        (["CMDLINE.TXT", "config.txt", "kernel8.img", "issue.txt"], "firstrun"),
    ],
)
def test_a_boot_partition_tells_its_format(names, form):
    assert detect_format(names) == form


def test_another_partition_is_told_from_a_boot_partition():
    with pytest.raises(BadRequest, match="no boot partition"):
        detect_format(["DCIM", "MISC"])


@each_format
def test_the_archive_holds_the_files_and_says_what_is_left_to_do(form):
    archive = zipfile.ZipFile(io.BytesIO(boot_zip(FULL, form, {"callboard-1.whl": b"wheel"})))
    assert {name: archive.read(name) for name in boot_files(FULL, form)} == boot_files(FULL, form)
    assert archive.read("callboard/wheels/callboard-1.whl") == b"wheel"
    readme = archive.read("callboard/README.txt").decode()
    assert "cfg80211.ieee80211_regdom=GB" in readme
    assert "dtparam=i2c_arm=on" in readme
    assert "internet" not in readme
    fetching = zipfile.ZipFile(io.BytesIO(boot_zip(FULL.model_copy(update={"fetch": True}), form)))
    assert "and internet, from where it fetches" in fetching.read("callboard/README.txt").decode()
