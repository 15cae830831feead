"""A table of cards is read as a whole, and what is wrong in it is told by row and column."""

import pytest

from callboard_core.boot import psk
from callboard_core.errors import BadRequest
from callboard_nodes.flash.fleet import COLUMNS, make_config, read_fleet, read_keys, read_settings

KEY = "ssh-ed25519 " + "A" * 68 + " ann@desk"


def test_each_row_is_a_card_and_empty_cells_mean_what_is_shared():
    table = "id,label,tags,wifi,wifi_password,country\nnode-1,First,a b,,,\nnode-2,,,other,secret-word,DE\n"
    shared = {"ssid": "home", "passphrase": "password", "country": "GB", "tags": ["all"], "label": "A node"}
    one, two = read_fleet(table, shared, {})
    assert (one.id, one.label, one.tags, one.wifi.ssid, one.country) == (
        "node-1",
        "First",
        ["a", "b"],
        "home",
        "GB",
    )
    assert (two.id, two.label, two.tags, two.wifi.ssid, two.country) == (
        "node-2",
        "A node",
        ["all"],
        "other",
        "DE",
    )
    assert (one.wifi.psk, two.wifi.psk) == (psk("home", "password"), psk("other", "secret-word"))
    assert one.instance != two.instance


def test_every_column_is_read(tmp_path):
    (tmp_path / "key.pub").write_text(KEY + "\n")
    (tmp_path / "node.toml").write_text('[[sensor]]\nname = "air"\n')
    cells = {
        "id": "n", "label": '"Gewächshaus, Süd"', "tags": '"a, b"', "user": "ann", "ssh_key": str(tmp_path / "key.pub"),
        "wifi": "home", "wifi_password": "password", "country": "GB", "timezone": "Europe/London", "keyboard": "gb",
        "buses": "i2c 1-wire", "site": "farm", "join": "CB2-A", "settings": str(tmp_path / "node.toml"),
    }  # fmt: skip
    assert cells.keys() == COLUMNS.keys()
    (config,) = read_fleet("\ufeff" + ",".join(cells) + "\r\n" + ",".join(cells.values()) + "\r\n", {}, {})
    assert config.label == "Gewächshaus, Süd"
    assert (config.tags, config.buses, config.ssh_keys) == (["a", "b"], ["i2c", "1-wire"], [KEY])
    assert config.settings == {"sensor": [{"name": "air"}]}
    assert (config.site, config.join, config.user, config.timezone) == (
        "farm",
        "CB2-A",
        "ann",
        "Europe/London",
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("id,colour\nn,red\n", "row 1 .*unknown column 'colour'; the columns are id, label"),
        ("label\nn\n", "no column id"),
        ("id,id\na,b\n", "twice"),
        ("", "no column id"),
        ("id\n", "no rows"),
        ("id,country\na,GB\nb,England\n", r"row 3 \(b\), column country: should be two capital letters"),
        ("id\na\nBad Id\n", r"row 3 \(Bad Id\), column id: .*try 'bad-id'"),
        ("id\na\nb\na\n", "row 4, column id: a is in row 2 already"),
        (
            "id,wifi,wifi_password,country\na,home,short,GB\n",
            r"row 2 \(a\), column wifi_password: a Wi-Fi passphrase",
        ),
        ("id,wifi\na,home\n", r"row 2 \(a\), the card: Wi-Fi stays off without a country"),
        ("id,buses\na,i2c uart\n", r"row 2 \(a\), column buses: Input should be"),
        ("id,ssh_key\na,/none.pub\n", "row 2, column ssh_key: cannot read /none.pub"),
        ("id,settings\na,/none.toml\n", "row 2, column settings: cannot read /none.toml"),
        ("id,label\na,b,c\n", "row 2: it has more cells"),
        ("id,label\n,x\n", r"row 2 \(no id\), column id"),
    ],
)
def test_what_is_wrong_is_told_by_row_and_column(table, message):
    with pytest.raises(BadRequest, match=message):
        read_fleet(table, {}, {})


def test_everything_that_is_wrong_in_a_table_is_told_at_once():
    table = "id,country,ssh_key,buses\nBad Id,England,,i2c\nfine,GB,,\nb,,/none.pub,uart\nfine,GB,,\n"
    with pytest.raises(BadRequest) as told:
        read_fleet(table, {}, {})
    said = told.value.message
    for part in (
        "row 2 (Bad Id), column id:",
        "column country:",
        "row 4, column ssh_key: cannot read /none.pub",
        "row 4 (b), column buses: Input should be",
        "row 5, column id: fine is in row 3 already",
    ):
        assert part in said
    with pytest.raises(BadRequest, match="unknown columns 'colour', 'size'"):
        read_fleet("id,colour,size\na,b,c\n", {}, {})


def test_what_all_cards_share_is_told_by_what_it_is_called():
    with pytest.raises(BadRequest, match=r"row 2 \(a\), --country: should be two capital letters, as GB$"):
        read_fleet("id\na\n", {"country": "England"}, {"country": "--country"})


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("country", "UK", r"--it: no country has the letters UK \(ISO 3166\)"),
        ("timezone", "Europe/Lodon", r"--it: there is no time zone Europe/Lodon; is it Europe/London\?"),
        ("timezone", "london", "--it: should be as Europe/London"),
        ("keyboard", "GB", "--it: should be the small letters of a layout"),
        ("user", "Ann Smith", "--it: should begin with a letter"),
        ("ssh_keys", ["no key", "nor this"], "^--it: should be one line of a public SSH key[^;]*$"),
    ],
)
def test_what_is_wrong_is_told_once_in_words_and_with_what_people_call_it(field, value, says):
    with pytest.raises(BadRequest, match=says):
        make_config({"id": "n", field: value}, {field: "--it"})


def test_a_private_key_is_told_from_a_public_one(tmp_path):
    (tmp_path / "id").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n")
    with pytest.raises(BadRequest, match=r"is a private key.*; name the public one, .*id\.pub"):
        read_keys(str(tmp_path / "id"))


def test_keys_come_from_files_or_as_they_are(tmp_path):
    file = tmp_path / "authorized_keys"
    file.write_text(f"# mine\n{KEY}\n\n{KEY}2\n")
    assert read_keys(str(file)) == [KEY, f"{KEY}2"]
    assert read_keys(KEY) == [KEY]


def test_settings_that_are_no_toml_are_told(tmp_path):
    (tmp_path / "a.toml").write_text("a = ")
    with pytest.raises(BadRequest, match="not valid TOML"):
        read_settings(tmp_path / "a.toml")


def test_a_hidden_network_without_a_password():
    config = make_config({"id": "n", "ssid": "open", "hidden": True, "country": "GB"}, {})
    assert (config.wifi.hidden, config.wifi.psk) == (True, "")
