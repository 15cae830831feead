"""Where settings come from, which layer wins, and what people are told when one is wrong."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from callboard_core.errors import BadRequest
from callboard_core.settings import (
    Settings,
    default_config_file,
    default_state_dir,
    load_settings,
    read_secret,
)
from callboard_core.settings.loader import Loaded, _Names, load


@pytest.fixture
def config(tmp_path):
    def write(text: str) -> Path:
        file = tmp_path / "callboard.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


@pytest.fixture
def home(tmp_path):
    """An environment in which no default file exists."""
    return {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CONFIG_HOME": str(tmp_path / "config")}


def shown(loaded: Loaded[Settings]) -> dict[str, str]:
    return {row.key: row.shown for row in loaded.rows()}


def message_of(**layers) -> str:
    with pytest.raises(BadRequest) as caught:
        load_settings(**({"env": {}} | layers))
    return caught.value.message


def test_each_layer_wins_over_the_one_before(config, home):
    file = config("site = 'file'\n[mqtt]\nport = 1\n[http]\nport = 1\n[console]\nport = 1\n")
    loaded = load_settings(
        file=file,
        env=home | {"CALLBOARD_HTTP_PORT": "2", "CALLBOARD_CONSOLE_PORT": "2"},
        flags={"console.port": 3},
    )
    value = loaded.value
    assert (value.site, value.mqtt.port, value.http.port, value.console.port) == ("file", 1, 2, 3)
    assert value.discovery.port == 18831
    assert loaded.sources["mqtt.port"] == f"file {file}"
    assert loaded.sources["http.port"] == "environment CALLBOARD_HTTP_PORT"
    assert loaded.sources["console.port"] == "flag --console-port"
    assert loaded.sources["discovery.port"] == "default"


def test_every_setting_has_a_source_and_a_row(home):
    loaded = load_settings(env=home)
    assert set(loaded.sources) == {row.key for row in loaded.rows()}
    assert set(loaded.sources.values()) == {"default"}


def test_a_flag_that_was_not_given_changes_nothing(home):
    loaded = load_settings(env=home, flags={"mqtt.port": None})
    assert loaded.value.mqtt.port == 1883
    assert loaded.sources["mqtt.port"] == "default"


def test_no_two_settings_share_an_environment_variable():
    names = _Names.of(Settings)
    assert len(names.env) == len(names.keys)


def test_flags_are_called_as_the_command_line_calls_them(home):
    loaded = load_settings(env=home, flags={"mqtt.engine": "mosquitto", "console.enabled": False})
    assert loaded.sources["mqtt.engine"] == "flag --engine"
    assert loaded.sources["console.enabled"] == "flag --no-console"


def test_lists_in_the_environment_are_separated_by_commas_or_written_as_json(home):
    env = home | {"CALLBOARD_NODE_TAGS": "roof, south ,", "CALLBOARD_SENSORS": '[{"driver": "bme280"}]'}
    value = load_settings(env=env).value
    assert value.node.tags == ["roof", "south"]
    assert value.sensors == [{"driver": "bme280"}]


def test_tables_of_sensors_and_controls_pass_through(config, home):
    file = config(
        "[[sensor]]\ndriver = 'bme280'\naddress = 0x76\nevery = 5.0\n"
        "[[sensor]]\ndriver = 'ds18b20'\n[[control]]\ndriver = 'gpio'\npin = 17\n"
    )
    loaded = load_settings(file=file, env=home)
    assert loaded.value.sensors == [
        {"driver": "bme280", "address": 118, "every": 5.0},
        {"driver": "ds18b20"},
    ]
    assert loaded.value.controls == [{"driver": "gpio", "pin": 17}]
    assert loaded.sources["sensors"] == f"file {file}"


def test_what_depends_on_the_state_folder_follows_it(tmp_path, home):
    value = load_settings(env=home, flags={"state": str(tmp_path / "s"), "node.id": "roof"}).value
    assert value.database.url == f"sqlite:///{tmp_path}/s/board.db"
    assert value.node.state == tmp_path / "s" / "nodes" / "roof"


def test_what_depends_on_the_state_folder_can_be_set_itself(tmp_path, home):
    flags = {"database.url": "postgresql://db/x", "node.state": tmp_path / "n"}
    value = load_settings(env=home, flags=flags).value
    assert (value.database.url, value.node.state) == ("postgresql://db/x", tmp_path / "n")


def test_paths_become_absolute(monkeypatch, tmp_path, home):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load_settings(env=home, flags={"state": "here"}).value.state == tmp_path / "here"
    assert load_settings(env=home, flags={"state": "~/x"}).value.state == tmp_path / "home" / "x"


def test_state_and_configuration_lie_where_xdg_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/me")
    assert default_state_dir({}) == Path("/home/me/.local/state/callboard")
    assert default_state_dir({"XDG_STATE_HOME": "/x"}) == Path("/x/callboard")
    assert default_state_dir({"XDG_STATE_HOME": "relative"}) == Path("/home/me/.local/state/callboard")
    assert default_state_dir({"CALLBOARD_STATE": "/s", "XDG_STATE_HOME": "/x"}) == Path("/s")
    assert default_config_file({}) == Path("/home/me/.config/callboard/callboard.toml")
    assert default_config_file({"XDG_CONFIG_HOME": "/c"}) == Path("/c/callboard/callboard.toml")


def test_the_default_file_is_read_if_it_exists(home):
    file = default_config_file(home)
    file.parent.mkdir(parents=True)
    file.write_text("site = 'stage'\n", encoding="utf-8")
    assert load_settings(env=home).value.site == "stage"


def test_the_environment_can_name_the_file(config, home):
    file = config("site = 'stage'\n")
    assert load_settings(env=home | {"CALLBOARD_CONFIG": str(file)}).value.site == "stage"


def test_variables_that_are_no_settings_are_left_alone(home):
    others = {"MQTT_PORT": "x", "_CALLBOARD_COMPLETE": "bash", "CALLBOARD_USERNAME": "operator"}
    assert load_settings(env=home | others).value.mqtt.port == 1883


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[mqtt]\nprot = 1\n", "unknown key 'mqtt.prot' in {file}; did you mean mqtt.port"),
        ("[mqqt]\nport = 1\n", "unknown key 'mqqt' in {file}; did you mean mqtt?"),
        ("port = 1\n", "did you mean mqtt.port or http.port"),
        ("[[sensors]]\ndriver = 'x'\n", "unknown key 'sensors' in {file}; did you mean sensor?"),
        ("zzz = 1\n", "unknown key 'zzz' in {file}; correct or remove it"),
        ("mqtt = 1\n", "'mqtt' in {file} is a section; write [mqtt]"),
        ("[mqtt]\nport = 99999\n", "mqtt.port = 99999: should be less than or equal to 65535. Change mqtt.port in {file}"),
        ("[mqtt]\nengine = 'rabbit'\n", "mqtt.engine = rabbit: should be embedded, mosquitto"),
        ("[node]\nid = 'Big One'\n", "try 'big-one'"),
        ("[node]\nboard = 'http://x'\n", "node.board = http://x: should be mqtt://host[:port]"),
        ("[node]\nallow = ['explode']\n", "node.allow.0 = "),
        ("[history]\nraw_days = nan\n", "history.raw_days = NaN: should be"),
        ("[[sensor]]\nwhen = 2024-01-01\n", "sensors.0.when"),
        ("site = 'stage\n", "{file} is not valid TOML"),
    ],
)  # fmt: skip
def test_a_wrong_file_names_the_key_the_file_and_the_remedy(config, text, expected):
    file = config(text)
    assert expected.format(file=file) in message_of(file=file)


def test_several_wrong_values_are_counted(config):
    assert "1 more values are wrong" in message_of(file=config("[mqtt]\nport = -1\n[http]\nport = -1\n"))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    assert f"cannot read the settings file {tmp_path}/none.toml" in message_of(file=tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "binary.toml is not valid TOML" in message_of(file=tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("CALLBOARD_MQTT_PROT", "1", "unknown setting CALLBOARD_MQTT_PROT in the environment; did you mean CALLBOARD_MQTT_PORT"),
        ("CALLBOARD_MQTT_PORT", "", "mqtt.port = '': should be a valid integer"),
        ("CALLBOARD_MQTT_PORT", "x", "Change or unset CALLBOARD_MQTT_PORT (a TCP port"),
        ("CALLBOARD_CONSOLE_ENABLED", "perhaps", "console.enabled = perhaps: should be a valid boolean"),
        ("CALLBOARD_SENSORS", "[{", "CALLBOARD_SENSORS is not valid JSON"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_named_with_the_remedy(variable, text, expected):
    assert expected in message_of(env={variable: text})


def test_a_wrong_flag_is_named_with_the_remedy():
    assert "mqtt.port = 70000: should be less" in message_of(flags={"mqtt.port": 70000})
    assert "Change --database" in message_of(flags={"database.url": 1})
    assert "unknown setting 'mqtt.prot'; did you mean mqtt.port" in message_of(flags={"mqtt.prot": 1})


def test_secrets_are_never_shown(config, home):
    env = home | {
        "CALLBOARD_NODE_PASSWORD": "hunter2",
        "CALLBOARD_DATABASE_URL": "postgresql://u:hunter2@db/x",
    }
    loaded = load_settings(env=env)
    assert loaded.value.node.password == "hunter2"
    assert "hunter2" not in str(loaded.rows()) + repr(loaded) + str(loaded.value)
    assert shown(loaded)["node.password"] == "********"
    assert shown(loaded)["database.url"] == "postgresql://u:********@db/x"
    assert "hunter2" not in message_of(file=config("[node]\npassword = ['hunter2']\n"))


def test_a_secret_that_is_not_set_shows_as_empty(home):
    assert shown(load_settings(env=home))["node.password"] == ""


def test_unknown_names_are_refused_in_code_too():
    with pytest.raises(ValidationError, match="sight"):
        Settings(sight="x")


def test_a_hosts_name_always_gives_a_node_id(monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "Pi_4.local")
    assert Settings().node.id == "pi-4"
    monkeypatch.setattr("platform.node", lambda: "…")
    assert Settings().node.id == "node"


def test_a_password_file_gives_its_first_line(tmp_path):
    file = tmp_path / "password"
    file.write_text("secret\nrest\n", encoding="utf-8")
    assert read_secret(file) == "secret"
    file.write_text("\n", encoding="utf-8")
    with pytest.raises(BadRequest, match="is empty"):
        read_secret(file)
    with pytest.raises(BadRequest, match="cannot read"):
        read_secret(tmp_path / "none")


def test_the_loader_fills_any_model(config):
    class Lamp(BaseModel):
        bright: int = 1

    class House(BaseModel):
        lamp: Lamp = Lamp()

    loaded = load(House, file=config("[lamp]\nbright = 7\n"), env={})
    assert loaded.value.lamp.bright == 7
    assert [(row.key, row.shown) for row in loaded.rows()] == [("lamp.bright", "7")]
