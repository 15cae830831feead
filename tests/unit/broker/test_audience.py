"""Who may have what was pushed to nodes."""

from __future__ import annotations

from callboard_broker.services.updates.audience import Audience
from callboard_core.updates import Content, Manifest

SHA = "ab" * 32


def pushed(*nodes: str, kind: str = "files") -> Manifest:
    file = Content(name="a", sha256=SHA, size=1)
    return Manifest(
        site="callboard", number=1, kind=kind, version="1" if kind == "release" else "", created=1.0,
        files=[file], nodes=list(nodes),
    )  # fmt: skip


def audience(*manifests: Manifest) -> Audience:
    made = Audience(lambda name: name.startswith("own-"))
    for manifest in manifests:
        made.add(manifest)
    return made


def test_a_release_is_no_secret():
    assert not audience(pushed(kind="release")).concerns(SHA)
    assert audience(pushed()).concerns(SHA)


def test_a_node_with_a_user_of_its_own_gets_what_is_for_it_and_no_other_user_does():
    made = audience(pushed("own-1", "own-2"))
    assert [made.includes(SHA, user) for user in ("own-1", "own-2", "own-3", "node")] == [
        True,
        True,
        False,
        False,
    ]


def test_nodes_that_share_a_user_get_what_is_for_one_of_them():
    made = audience(pushed("own-1", "shed"))
    assert [made.includes(SHA, user) for user in ("own-1", "node", "own-3")] == [True, True, False]


def test_what_is_for_all_is_for_every_node_and_the_same_content_may_be_pushed_again():
    assert audience(pushed()).includes(SHA, "own-3")
    assert audience(pushed("own-1"), pushed("own-3")).includes(SHA, "own-3")
    assert not audience().includes(SHA, "own-3")
