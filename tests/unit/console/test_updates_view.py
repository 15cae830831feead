"""The Updates page: what went out, how it stands, and what one may do about it."""

from callboard_console.web.views import updates

NODE = {
    "node": "a",
    "stage": "fetching",
    "progress": 0.4,
    "reason": "",
    "version": "",
    "started": 100.0,
    "ended": None,
}
UPDATE = {
    "id": "3f2a",
    "number": 7,
    "kind": "release",
    "version": "0.2.0",
    "created": 90.0,
    "by": "ann",
    "state": "running",
    "reason": "",
    "nodes": [NODE],
}


def shown(may_command=True, **changes):
    return str(updates.render([{**UPDATE, **changes}], may_command=may_command, now=105.0))


def test_an_update_tells_what_it_is_and_how_its_nodes_stand():
    text = shown()
    for words in ("release 0.2.0", "running", "fetching", "40%", "ann", 'href="node?node=a"'):
        assert words in text


def test_what_can_be_done_depends_on_the_state_and_on_who_looks():
    assert 'data-act="pause:3f2a"' in shown()
    assert 'data-act="resume:3f2a"' in shown(state="paused")
    assert 'data-act="cancel' not in shown(state="done")
    assert 'data-act="pause' not in shown(may_command=False)


def test_reasons_are_told_and_cannot_be_markup():
    text = shown(state="paused", reason="<b>1 node failed</b>", nodes=[{**NODE, "reason": "<script>"}])
    assert "&lt;b&gt;1 node failed" in text
    assert "&lt;script&gt;" in text


def test_an_empty_page_says_how_to_begin():
    assert "callboard update --all" in str(updates.render([], may_command=True, now=0.0))


def test_a_nodes_own_updates_tell_what_became_of_them():
    past = {**UPDATE, "stage": "rolled-back", "reason": "it was not well", "running": "0.1.0"}
    text = str(updates.of_node([past]))
    for words in ("release 0.2.0", "rolled-back", "it was not well", "0.1.0", "cb-bad"):
        assert words in text
    assert str(updates.of_node([])) == ""


def test_configurations_are_told_by_their_number_and_releases_with_their_note():
    assert updates.about({**UPDATE, "kind": "config", "version": ""}) == "config 7"
    assert updates.release({"version": "0.2.0", "number": 7, "note": "faster"}) == "0.2.0 (number 7, faster)"
