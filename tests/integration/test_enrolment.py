"""A machine joins a board: over real TLS, to a board that stands in, and among impostors."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
import threading
from base64 import b64decode
from types import SimpleNamespace

import pytest

from callboard_core.discovery import Found
from callboard_core.errors import Conflict, Expired, Forbidden, Unauthorized, Unavailable
from callboard_core.link import Credential, Endpoint
from callboard_core.settings import Settings
from callboard_core.trust.keys import check_request
from callboard_nodes.enrolment import (
    Applicant,
    Inviting,
    Joining,
    NotTheBoard,
    Peer,
    Renewal,
    Store,
    Whereabouts,
    WrongClock,
    https,
)
from callboard_nodes.locate import Locator
from support.standin import PASSWORD, TOKEN, StandIn, error
from support.waiting import wait_until


@pytest.fixture
def board():
    with StandIn().serving() as board:
        yield board


@pytest.fixture
def impostor():
    with StandIn().serving() as impostor:
        yield impostor


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "pi")


def joining(code, store, **settings):
    return Joining(code, Applicant("pi", "Pi", "raspberrypi"), store, **settings)


def nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"127.0.0.1:{closed.getsockname()[1]}"


class TestJoining:
    def test_a_machine_that_was_let_in_keeps_all_of_it_for_itself(self, board, store):
        joining(board.code(), store).run()
        found = store.read()
        assert (found.record.site, found.record.id, found.password) == ("callboard", "pi", PASSWORD)
        assert found.record.addresses == [board.address]
        found.context(certified=True)  # key and certificate fit
        assert stat.S_IMODE(store.path.stat().st_mode) == 0o700
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in store.path.iterdir()}
        assert modes == dict.fromkeys(["ca.pem", "enrolment.json", "node.crt", "node.key", "password"], 0o600)
        assert list(store.state.glob("joining-*")) == []

    def test_the_board_is_told_the_token_and_never_the_key(self, board, store):
        joining(board.code(), store).run()
        *asked, (method, path, _, wish) = board.told
        assert [path for _, path, _, _ in asked] == ["/api/v1/trust/ca"]
        assert board.met == 2, "the token takes the connection in which the board has proved who it is"
        assert (method, path) == ("POST", "/api/v1/enrol")
        assert (wish["token"], wish["id"], wish["label"], wish["host"]) == (TOKEN, "pi", "Pi", "raspberrypi")
        assert "PRIVATE KEY" not in board.secrets_told()

    def test_every_address_of_the_code_is_tried(self, board, store):
        joining(board.code(nobody_listens(), nobody_listens(), board.address), store).run()
        assert store.read().record.addresses == [board.address]

    def test_a_board_that_has_moved_since_is_found_by_a_search(self, board, store):
        asked = []

        def search(site):
            asked.append(site)
            yield Found(site=site, host="127.0.0.1", mqtt_port=1, https=board.port)

        joining(board.code(nobody_listens()), store, search=search).run()
        assert asked == ["callboard"]
        assert store.read() is not None

    def test_an_impostor_gets_no_token(self, board, impostor, store):
        with pytest.raises(NotTheBoard, match="another fingerprint; nothing was sent"):
            joining(board.code(impostor.address), store).run()
        assert [path for _, path, _, _ in impostor.told] == ["/api/v1/trust/ca"]
        assert store.read() is None

    def test_an_impostor_that_shows_the_boards_authority_gets_no_token(self, board, impostor, store):
        impostor.shows = board.bundle
        with pytest.raises(NotTheBoard, match="nothing was sent"):
            joining(board.code(impostor.address), store).run()
        assert [path for _, path, _, _ in impostor.told] == ["/api/v1/trust/ca"]

    def test_an_impostor_at_one_address_does_not_keep_the_machine_out(self, board, impostor, store):
        joining(board.code(impostor.address, board.address), store).run()
        assert store.read() is not None
        assert TOKEN not in impostor.secrets_told()

    def test_what_is_no_board_gets_no_token(self, board, store):
        with socket.create_server(("127.0.0.1", 0)) as other:
            got = []

            def talk():
                connection, _ = other.accept()
                with connection:
                    got.append(connection.recv(4096))
                    connection.sendall(b"SSH-2.0-OpenSSH\r\n")

            thread = threading.Thread(target=talk)
            thread.start()
            with pytest.raises(Unavailable, match="cannot be reached"):
                joining(board.code(f"127.0.0.1:{other.getsockname()[1]}"), store).run()
            thread.join(10)
        assert TOKEN.encode() not in b"".join(got)

    def test_a_board_that_is_not_there_is_told_with_all_addresses(self, board, store):
        there = [nobody_listens(), nobody_listens()]
        with pytest.raises(Unavailable) as caught:
            joining(board.code(*there), store).run()
        assert all(address in caught.value.message for address in there)

    @pytest.mark.parametrize(
        ("status", "code", "kind"),
        [(410, "expired", Expired), (409, "conflict", Conflict), (403, "forbidden", Forbidden)],
    )
    def test_what_the_board_says_against_a_code_is_told_as_it_is(self, board, store, status, code, kind):
        board.decide = lambda *_: (status, error(code, "the code was used"))
        with pytest.raises(kind, match="the code was used"):
            joining(board.code(), store, patient=True).run()
        assert list(store.state.iterdir()) == []

    def test_a_wrong_clock_is_told_as_one(self, monkeypatch):
        class Early(Exception):
            verify_code = 9

        told = https.explain_tls("10.0.0.1:8443", Early())
        assert isinstance(told, WrongClock)
        assert "set the clock" in told.message


class TestWaiting:
    def test_a_machine_waits_for_the_operators_yes_and_says_for_what(self, board, store):
        wishes = []
        board.tickets["t1"] = (202, {"state": "pending", "ticket": "t1", "poll": 0.02})

        def decide(_, wish):
            wishes.append(wish)
            return board.tickets["t1"]

        board.decide = decide
        said = []
        thread = threading.Thread(target=joining(board.code(), store, say=said.append).run)
        thread.start()
        wait_until(lambda: sum(path.endswith("/t1") for _, path, _, _ in list(board.told)) > 3)
        assert store.read() is None
        board.tickets["t1"] = (200, board.accepted(wishes[0]))
        thread.join(20)
        assert store.read().record.id == "pi"
        (waiting,) = said
        assert "callboard join accept pi" in waiting
        assert len(wishes) == 1

    def test_a_no_is_told_and_forgotten(self, board, store):
        board.decide = lambda *_: (202, {"state": "pending", "ticket": "t1", "poll": 0.02})
        board.tickets["t1"] = (403, error("forbidden", "the operator said no"))
        with pytest.raises(Forbidden, match="said no"):
            joining(board.code(), store).run()
        assert list(store.state.glob("joining-*")) == []

    def test_a_machine_that_was_switched_off_waits_on_with_the_same_key(self, board, store):
        wishes = []

        def decide(_, wish):
            wishes.append(wish)
            return 202, {"state": "pending", "ticket": "t1", "poll": 60.0}

        board.decide = decide
        stop = threading.Event()
        first = joining(board.code(), store, stop=stop)

        def run():
            with pytest.raises(Unavailable, match="stopped"):
                first.run()

        thread = threading.Thread(target=run)
        thread.start()
        wait_until(lambda: list(store.state.glob("joining-*")) and wishes)
        stop.set()
        thread.join(20)
        board.tickets["t1"] = (200, board.accepted(wishes[0]))
        joining(board.code(), store).run()
        assert len(wishes) == 1
        store.read().context(certified=True)

    def test_a_board_that_has_forgotten_who_waits_is_asked_again(self, board, store):
        board.decide = lambda before, wish: (
            (202, {"state": "pending", "ticket": "gone", "poll": 0.02})
            if not before
            else (200, board.accepted(wish))
        )
        joining(board.code(), store).run()
        wishes = [wish for _, path, _, wish in board.told if path == "/api/v1/enrol"]
        keys = {check_request(wish["csr"]).public_numbers() for wish in wishes}
        assert (len(wishes), len(keys)) == (2, 1)
        assert store.read() is not None

    def test_a_board_with_too_much_to_do_is_asked_again(self, board, store, monkeypatch):
        monkeypatch.setattr("callboard_nodes.enrolment.joining._FIRST_PAUSE", 0.01)
        board.decide = lambda before, wish: (
            (503, error("overloaded", "busy")) if before < 2 else (200, board.accepted(wish))
        )
        joining(board.code(), store).run()
        assert store.read() is not None


class TestAFileWithACode:
    def test_it_is_followed_and_scrubbed(self, board, store, tmp_path):
        file = tmp_path / "join"
        file.write_text(board.code().text.lower() + "\n")
        asyncio.run(Inviting(file, Applicant("pi"), store).follow(search=lambda _: (), say=print))
        assert store.read() is not None
        assert not file.exists()

    def test_a_machine_that_nobody_watches_waits_for_its_network(self, board, store, tmp_path, monkeypatch):
        monkeypatch.setattr("callboard_nodes.enrolment.joining._FIRST_PAUSE", 0.02)
        monkeypatch.setattr("callboard_nodes.enrolment.joining._LONGEST_PAUSE", 0.02)
        file, said, found = tmp_path / "join", [], []
        file.write_text(board.code(nobody_listens()).text)

        async def follow():
            following = Inviting(file, Applicant("pi"), store).follow(
                search=lambda _: list(found), say=said.append
            )
            task = asyncio.create_task(following)
            await asyncio.to_thread(wait_until, lambda: said)
            assert file.exists()
            found.append(Found(site="callboard", host="127.0.0.1", mqtt_port=1, https=board.port))
            await task

        asyncio.run(follow())
        assert "trying again" in said[0]
        assert not file.exists()

    def test_it_can_be_stopped_at_once(self, board, store, tmp_path, monkeypatch):
        board.decide = lambda *_: (202, {"state": "pending", "ticket": "t", "poll": 600.0})
        file = tmp_path / "join"
        file.write_text(board.code().text)
        said, ended, join = [], threading.Event(), Joining.run

        def run(joining):
            try:
                join(joining)
            finally:
                ended.set()

        monkeypatch.setattr(Joining, "run", run)

        async def follow():
            following = Inviting(file, Applicant("pi"), store).follow(search=lambda _: (), say=said.append)
            task = asyncio.create_task(following)
            await asyncio.to_thread(wait_until, lambda: said)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        asyncio.run(follow())
        assert file.exists(), "the next start goes on"
        assert ended.wait(10)

    def test_a_machine_whose_enrolment_was_withdrawn_joins_again(self, board, store, tmp_path):
        joining(board.code(), store).run()
        file, key = tmp_path / "join", store.read().key
        file.write_text(board.code().text)
        board.withdrawn = True
        asyncio.run(Inviting(file, Applicant("pi"), store).follow(search=lambda _: (), say=print))
        assert store.read().key != key
        assert not file.exists()

    def test_a_machine_that_is_well_uses_no_code_up(self, board, store, tmp_path):
        joining(board.code(), store).run()
        file, key = tmp_path / "join", store.read().key
        file.write_text(board.code().text)
        asyncio.run(Inviting(file, Applicant("pi"), store).follow(search=lambda _: (), say=print))
        assert store.read().key == key
        assert sum(path == "/api/v1/enrol" for _, path, _, _ in board.told) == 1
        assert not file.exists()

    def test_a_code_for_a_machine_that_has_joined_stays_while_its_board_is_away(self, store, tmp_path):
        file = tmp_path / "join"
        with StandIn().serving() as board:
            joining(board.code(), store).run()
            file.write_text(board.code().text)
        asyncio.run(Inviting(file, Applicant("pi"), store).follow(search=lambda _: (), say=print))
        assert file.exists()

    def test_a_code_of_another_board_changes_nothing(self, board, impostor, store, tmp_path):
        joining(board.code(), store).run()
        file, said = tmp_path / "join", []
        file.write_text(impostor.code().text)
        asyncio.run(Inviting(file, Applicant("pi"), store).follow(search=lambda _: (), say=said.append))
        assert impostor.told == []
        assert "another board" in said[0]


class TestTheBoardMoves:
    def where(self, store, *found, hint=None):
        return Whereabouts(store, lambda _: iter(found), hint)

    def found(self, board):
        return Found(site="callboard", host="127.0.0.1", mqtt_port=1883, mqtts=board.port, https=board.port)

    def moved(self, store, addresses):
        record = store.read().record
        port = int(addresses[0].rpartition(":")[2])
        store.note(record.model_copy(update={"addresses": addresses, "mqtt_port": port}))

    def test_the_address_that_worked_is_taken_as_it_is(self, board, store):
        joining(board.code(), store).run()
        board.told.clear()
        where = self.where(store)
        assert where.endpoint().port == board.port
        assert where.url() == f"https://{board.address}"

    def test_a_board_that_answers_a_search_must_prove_itself_and_an_impostor_gets_nothing(
        self, board, impostor, store
    ):
        joining(board.code(), store).run()
        self.moved(store, [nobody_listens()])
        where = self.where(store, self.found(impostor), self.found(board))
        where.endpoint()
        assert where.endpoint().port == board.port
        assert impostor.told == []
        assert store.read().record.addresses[0] == board.address
        assert self.where(store).endpoint().port == board.port, "the next start begins there"

    def test_an_impostor_alone_is_not_connected_to(self, board, impostor, store):
        joining(board.code(), store).run()
        self.moved(store, [nobody_listens()])
        where = self.where(store, self.found(impostor))
        where.endpoint()
        for _ in range(3):
            with pytest.raises(Unavailable, match="is not the board it should be"):
                where.endpoint()
        assert impostor.told == []

    def test_an_impostor_that_has_taken_the_boards_address_gets_nothing(self, board, impostor, store):
        joining(board.code(), store).run()
        self.moved(store, [impostor.address])
        where = self.where(store, self.found(board))
        where.endpoint()
        assert where.endpoint().port == board.port
        with pytest.raises(NotTheBoard):
            Peer(impostor.address, where.web_context(), where.credential()).get("/api/v1/me")
        assert impostor.told == []

    def test_after_a_failure_it_is_tried_without_the_certificate_too(self, board, store):
        joining(board.code(), store).run()
        asked, certified = [], []
        where = self.where(store, hint=Endpoint("127.0.0.1", board.port, tls=True))
        found = where.enrolment()
        where.enrolment = lambda: SimpleNamespace(
            record=found.record,
            context=lambda *, certified=False: asked.append(certified) or found.context(certified=certified),
        )
        for _ in range(3):
            where.endpoint()
            asked.clear()
            where.context()
            certified.append(asked[0])
        assert certified == [True, False, True]


class TestTheLocator:
    def settings(self, tmp_path, **node):
        return Settings(state=tmp_path, node={"id": "pi", **node}, discovery={"enabled": False})

    def test_an_enrolment_wins_over_a_board_on_this_machine_and_discovery(self, board, tmp_path):
        settings = self.settings(tmp_path)
        joining(board.code(), Store(settings.node.state)).run()
        locator = Locator(settings)
        endpoint = locator.endpoint()
        assert (endpoint.port, endpoint.tls) == (board.port, True)
        assert locator.credential().password == PASSWORD
        assert locator.tls() is not None
        assert locator.http()() == f"https://{board.address}"

    def test_an_address_that_was_given_is_still_only_a_hint(self, board, tmp_path):
        settings = self.settings(tmp_path, board="mqtts://127.0.0.1:1")
        joining(board.code(), Store(settings.node.state)).run()
        locator = Locator(settings)
        assert locator.endpoint().port == 1
        assert locator.endpoint().port == board.port

    def test_an_unencrypted_address_never_gets_what_the_node_got_when_it_enrolled(self, board, tmp_path):
        settings = self.settings(tmp_path, board="mqtt://127.0.0.1:1")
        joining(board.code(), Store(settings.node.state)).run()
        locator = Locator(settings)
        assert (locator.enrolled, locator.credential(), locator.tls()) == (False, None, None)

    def test_other_clients_of_the_machine_find_the_board_and_need_their_own_credential(self, board, tmp_path):
        settings = self.settings(tmp_path)
        joining(board.code(), Store(settings.node.state)).run()
        with pytest.raises(Unauthorized, match="not for others"):
            Locator(settings, role="operator").endpoint()
        locator = Locator(settings, role="operator", given=Credential("ada", "secret"))
        assert locator.endpoint().tls
        assert locator.credential() == Credential("ada", "secret")


class TestRenewal:
    def renewal(self, store):
        where = Whereabouts(store, lambda _: ())
        return Renewal(store, where)

    def test_nothing_is_renewed_while_all_is_well(self, board, store):
        joining(board.code(), store).run()
        before = store.read()
        assert self.renewal(store).look() is False
        assert board.renewals == 0
        assert store.read() == before

    def test_a_rotation_is_followed_without_a_moment_of_distrust(self, board, store):
        joining(board.code(), store).run()
        before = store.read()
        board.rotate()
        assert self.renewal(store).look() is True
        after = store.read()
        assert after.key != before.key
        assert after.bundle == board.bundle
        assert self.renewal(store).look() is False
        board.finish()
        assert self.renewal(store).look() is False
        assert store.read().bundle == board.bundle
        assert board.renewals == 1

    def test_a_node_that_was_off_during_a_rotation_still_knows_the_board(self, board, store):
        joining(board.code(), store).run()
        board.rotate()
        assert "BEGIN CERTIFICATE" in Peer(board.address, store.read().context()).get("/api/v1/trust/ca")
        board.finish()
        with pytest.raises(NotTheBoard):
            Peer(board.address, store.read().context()).get("/api/v1/trust/ca")

    def test_the_board_knows_by_the_password_who_asks(self, board, store):
        joining(board.code(), store).run()
        board.rotate()
        self.renewal(store).look()
        (sent,) = [authorization for _, path, authorization, _ in board.told if path.endswith("/renew")]
        assert b64decode(sent.removeprefix("Basic ")).decode() == f"pi:{PASSWORD}"
