"""Join codes and the desk: who is let in, who waits, who is turned away, and what each is told."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from callboard_broker.access import Role, Users
from callboard_broker.access.authority import Authority
from callboard_broker.services.brake import Brake
from callboard_broker.services.enrolment import EnrolmentDesk, JoinCodes, Keys, Rotation
from callboard_broker.services.enrolment.desk import MOST_PENDING
from callboard_broker.store.database import Database
from callboard_broker.store.enrolments import EnrolmentRecord
from callboard_core.errors import (
    BadRequest,
    CallboardError,
    Conflict,
    Expired,
    Forbidden,
    NotFound,
    Overloaded,
    Unauthorized,
)
from callboard_core.settings import Settings
from callboard_core.trust import JoinCode, fingerprint_of_pem
from callboard_core.trust.enrolment import Enrol, Enrolled, EnrolmentState, Join, Pending, Renew
from callboard_core.trust.keys import common_name_of, new_key, signing_request

HOUR = 3_600
ME = "203.0.113.5"


class Board:
    """All that lets machines in, without a broker and HTTP."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.now = 1_800_000_000.0
        self.told: list[EnrolmentRecord] = []
        self.rotated: list[str] = []
        self.live: set[str] = set()
        lan = {"enabled": True, "names": ["board.example.org"]} | settings
        self.settings = Settings.model_validate({"state": folder, "lan": lan})
        self.database = Database(f"sqlite:///{folder / 'board.db'}")
        self.database.open()
        self.users = Users(folder / "users.json")
        self.users.put("viewer", Role.VIEWER, "a password")
        self.keys = Keys(Authority(folder, "callboard"), self.settings)
        self.keys.tend()
        self.codes = JoinCodes(self.database, self.keys, "callboard", clock=lambda: self.now)
        self.desk = EnrolmentDesk(
            self.database,
            self.keys,
            self.users,
            "callboard",
            brake=Brake(),
            is_live=self.live.__contains__,
            tell=self.told.append,
            clock=lambda: self.now,
        )
        self.rotation = Rotation(self.keys, self.desk, self.users, self.rotated.append)

    def code(self, **wanted: object) -> JoinCode:
        return JoinCode.parse(self.codes.make(Join.model_validate(wanted), "operator").code)


class Machine:
    def __init__(self, board: Board, node: str = "greenhouse") -> None:
        self.board, self.node, self.key = board, node, new_key()

    @property
    def csr(self) -> str:
        return signing_request(self.key, self.node)

    def ask(self, code: JoinCode | str, address: str = ME) -> Enrolled | Pending:
        token = code.token if isinstance(code, JoinCode) else code
        return self.board.desk.enrol(Enrol(token=token, id=self.node, csr=self.csr, label="Roof"), address)

    def join(self, code: JoinCode) -> Enrolled:
        answer = self.ask(code)
        assert isinstance(answer, Enrolled)
        return answer

    def wait(self, code: JoinCode) -> Pending:
        answer = self.ask(code)
        assert isinstance(answer, Pending)
        return answer


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


@pytest.fixture
def machine(board: Board) -> Machine:
    return Machine(board)


def test_a_code_tells_where_the_board_is_and_how_to_know_it(board: Board) -> None:
    code = board.code()
    assert code.addresses[0] == "board.example.org:8443"
    assert code.authority == board.keys.authority.fingerprint
    assert code.expires == board.now + HOUR + 1
    assert len(code.addresses) <= 4
    assert [join.used for join in board.codes.items()] == [0]
    assert code.token not in (board.settings.state / "board.db").read_bytes().decode("latin-1")


def test_a_board_that_nobody_can_reach_makes_no_code(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="callboard up --lan"):
        Board(tmp_path, enabled=False).code()


def test_a_board_with_a_broker_of_somebody_else_makes_no_code(board: Board) -> None:
    outside = board.settings.model_copy(
        update={"mqtt": board.settings.mqtt.model_copy(update={"engine": "mqtts://broker"})}
    )
    with pytest.raises(Conflict, match="not this board's own"):
        Keys(board.keys.authority, outside).check_open()


def test_a_machine_with_a_code_gets_a_credential_bound_to_its_id(board: Board, machine: Machine) -> None:
    code = board.code()
    got = machine.join(code)
    assert (got.site, got.id, got.mqtt_port, got.http_port) == ("callboard", "greenhouse", 8883, 8443)
    assert common_name_of(got.certificate) == "greenhouse"
    assert got.bundle == board.keys.authority.bundle
    assert got.update_key == code.update_key == board.keys.authority.update_key
    user = board.users.verify("greenhouse", got.password)
    assert user is not None
    assert (user.role, user.client_id) == (Role.NODE, "greenhouse")
    assert user.certificate == fingerprint_of_pem(got.certificate)
    assert [(one.id, one.state, one.label, one.address) for one in board.desk.items()] == [
        ("greenhouse", EnrolmentState.ACCEPTED, "Roof", ME)
    ]
    assert [record.state for record in board.told] == ["accepted"]


def test_a_code_lets_in_as_many_machines_as_it_was_made_for(board: Board, machine: Machine) -> None:
    code = board.code(uses=2)
    machine.join(code)
    Machine(board, "two").join(code)
    with pytest.raises(Conflict, match="2 machines already"):
        Machine(board, "three").ask(code)
    assert board.users.find("three") is None


def test_a_machine_that_did_not_get_its_answer_asks_again_and_uses_nothing_up(
    board: Board, machine: Machine
) -> None:
    code = board.code()
    first, second = machine.join(code), machine.join(code)
    assert board.users.verify("greenhouse", second.password)
    assert not board.users.verify("greenhouse", first.password)
    board.now += HOUR + 60
    with pytest.raises(Expired):
        machine.ask(code)


def test_a_replayed_code_is_refused_whatever_it_is_replayed_with(board: Board, machine: Machine) -> None:
    code = board.code()
    machine.join(code)
    for thief in (Machine(board, "thief"), Machine(board, "greenhouse")):
        with pytest.raises(Conflict, match="a machine already"):
            thief.ask(code)
    stolen = Machine(board, "other")
    stolen.key = machine.key
    with pytest.raises(Conflict):
        stolen.ask(code)


def test_of_many_machines_that_ask_at_once_with_one_code_one_is_let_in(board: Board) -> None:
    code, start = board.code(), threading.Barrier(8)

    def ask(number: int) -> str:
        machine = Machine(board, f"pi-{number}")
        start.wait()
        try:
            machine.join(code)
        except CallboardError as error:
            return error.code
        return "in"

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(ask, range(8))) == ["conflict"] * 7 + ["in"]
    assert len([name for name in board.users.names() if name.startswith("pi-")]) == 1


def test_of_two_machines_that_want_one_id_at_once_one_waits(board: Board) -> None:
    code, start = board.code(uses=2), threading.Barrier(2)

    def ask(_number: int) -> str:
        machine = Machine(board)
        start.wait()
        return machine.ask(code).state

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(ask, range(2))) == ["accepted", "pending"]


def test_an_expired_and_a_revoked_code_let_nobody_in(board: Board, machine: Machine) -> None:
    code = board.code(seconds=60)
    board.now += 62
    with pytest.raises(Expired, match="callboard join"):
        machine.ask(code)
    code = board.code()
    board.codes.revoke(board.codes.items()[0].name)
    with pytest.raises(Unauthorized, match="not known"):
        machine.ask(code)
    with pytest.raises(NotFound):
        board.codes.revoke("nobody")
    assert board.users.names() == ["viewer"]


def test_codes_that_expired_long_ago_are_forgotten(board: Board) -> None:
    board.code(seconds=60)
    board.now += 8 * 86_400
    board.code()
    assert len(board.codes.items()) == 1


def test_who_guesses_codes_is_slowed_down_and_others_are_not(board: Board, machine: Machine) -> None:
    def guess(**more: str) -> None:
        machine.ask("00" * 16, **more)

    for _ in range(5):
        with pytest.raises(Unauthorized):
            guess()
    with pytest.raises(Overloaded, match="try again in"):
        guess()
    with pytest.raises(Unauthorized):
        guess(address="203.0.113.6")
    assert isinstance(machine.ask(board.code()), Enrolled), "beside whoever guesses"
    board.now += 2
    with pytest.raises(Unauthorized):
        guess()


@pytest.mark.parametrize("node", ["viewer", "board", "admin", "node", "operator"])
def test_a_machine_cannot_take_the_name_of_a_person_or_of_the_board(board: Board, node: str) -> None:
    with pytest.raises(Conflict, match="another id"):
        Machine(board, node).ask(board.code())


def test_a_code_for_one_id_lets_in_no_other(board: Board) -> None:
    code = board.code(id="roof")
    with pytest.raises(Forbidden, match="'roof' only"):
        Machine(board).ask(code)
    Machine(board, "roof").join(code)


def test_a_known_id_with_another_key_waits_for_the_operators_yes(board: Board, machine: Machine) -> None:
    old = machine.join(board.code())
    again = Machine(board)
    waiting = again.wait(board.code())
    assert board.users.verify("greenhouse", old.password), "who waits takes nothing away"
    assert isinstance(board.desk.collect(waiting.ticket), Pending)
    number = board.desk.items()[0].number
    assert board.desk.decide(number, "ann", accept=True).by == "ann"
    got = board.desk.collect(waiting.ticket)
    assert isinstance(got, Enrolled)
    assert board.users.verify("greenhouse", got.password)
    assert not board.users.verify("greenhouse", old.password)
    user = board.users.find("greenhouse")
    assert user is not None
    assert user.certificate == fingerprint_of_pem(got.certificate) != fingerprint_of_pem(old.certificate)
    with pytest.raises(Conflict, match="does not wait"):
        board.desk.decide(number, "ann", accept=False)


def test_a_known_id_with_its_own_key_and_one_that_the_code_names_do_not_wait(
    board: Board, machine: Machine
) -> None:
    machine.join(board.code())
    machine.join(board.code())
    Machine(board).join(board.code(id="greenhouse"))


def test_the_id_of_a_node_that_is_here_without_a_credential_of_its_own_waits(
    board: Board, machine: Machine
) -> None:
    board.live.add("greenhouse")
    machine.wait(board.code())
    assert "without a credential" in board.desk.items()[0].reason


def test_who_is_rejected_is_told_so_and_stays_out(board: Board, machine: Machine) -> None:
    code = board.code(ask=True)
    waiting = machine.wait(code)
    board.desk.decide(board.desk.items()[0].number, "ann", accept=False)
    for ask in (lambda: board.desk.collect(waiting.ticket), lambda: machine.ask(code)):
        with pytest.raises(Forbidden, match="refused"):
            ask()
    assert board.users.find("greenhouse") is None
    assert [record.state for record in board.told] == ["pending", "rejected"]


def test_who_waits_can_ask_again_and_the_last_ticket_counts(board: Board, machine: Machine) -> None:
    code = board.code(ask=True)
    first, second = machine.wait(code), machine.wait(code)
    assert len(board.desk.items()) == 1
    with pytest.raises(NotFound, match="join again"):
        board.desk.collect(first.ticket)
    board.now += 10 * HOUR
    assert isinstance(board.desk.collect(second.ticket), Pending), "who waits may wait for long"
    with pytest.raises(NotFound):
        board.desk.collect("nonsense")
    with pytest.raises(NotFound):
        board.desk.decide(99, "ann", accept=True)


def test_a_ticket_is_good_for_an_hour_after_the_decision(board: Board, machine: Machine) -> None:
    waiting = machine.wait(board.code(ask=True))
    board.desk.decide(1, "ann", accept=True)
    assert isinstance(board.desk.collect(waiting.ticket), Enrolled)
    assert isinstance(board.desk.collect(waiting.ticket), Enrolled), "the answer may have been lost"
    board.now += HOUR + 1
    with pytest.raises(NotFound):
        board.desk.collect(waiting.ticket)


def test_only_so_many_can_wait(board: Board) -> None:
    code = board.code(ask=True, uses=1_000)
    machine = Machine(board)
    for number in range(MOST_PENDING):
        machine.node = f"pi-{number}"
        machine.wait(code)
    machine.node = "one-more"
    with pytest.raises(Overloaded, match="decide about them first"):
        machine.ask(code)
    board.now += 8 * 86_400
    machine.wait(board.code(ask=True))


def test_a_withdrawn_credential_is_worthless_and_its_code_too(board: Board, machine: Machine) -> None:
    code = board.code()
    got = machine.join(code)
    assert board.desk.withdraw("greenhouse")
    assert not board.desk.withdraw("greenhouse")
    assert not board.desk.withdraw("viewer"), "people are no nodes"
    assert board.users.names() == ["viewer"]
    assert not board.users.verify("greenhouse", got.password)
    with pytest.raises(Conflict):
        machine.ask(code)


def test_an_operator_revokes_what_was_let_in(board: Board, machine: Machine) -> None:
    machine.join(board.code())
    number = board.desk.items()[0].number
    assert board.desk.revoke(number, "ann").state is EnrolmentState.REVOKED
    assert board.users.find("greenhouse") is None
    with pytest.raises(NotFound):
        board.desk.revoke(number, "ann")
    machine.wait(board.code(ask=True))
    with pytest.raises(Conflict, match="no credential"):
        board.desk.revoke(board.desk.items()[0].number, "ann")


def test_a_node_whose_user_was_removed_is_not_let_in_by_asking_again(board: Board, machine: Machine) -> None:
    code = board.code()
    machine.join(code)
    board.users.remove("greenhouse")  # as an admin does under People, who knows of no enrolment
    with pytest.raises(Conflict, match="ask for a new one"):
        machine.ask(code)
    assert board.users.names() == ["viewer"]


def test_a_ticket_does_not_bring_back_a_user_that_was_removed(board: Board, machine: Machine) -> None:
    ticket = machine.wait(board.code(ask=True)).ticket
    board.desk.decide(board.desk.items()[0].number, "ann", accept=True)
    board.desk.collect(ticket)
    board.users.remove("greenhouse")
    with pytest.raises(NotFound):
        board.desk.collect(ticket)
    assert board.users.names() == ["viewer"]


def test_a_machine_that_another_one_has_replaced_does_not_get_its_place_back_by_asking_again(
    board: Board, machine: Machine
) -> None:
    code = board.code()
    machine.join(code)
    board.now += 60
    got = Machine(board).join(board.code(id="greenhouse"))
    board.now += 60
    with pytest.raises(Conflict, match="ask for a new one"):
        machine.ask(code)
    assert board.users.verify("greenhouse", got.password)


def test_a_person_is_not_replaced_by_a_node_although_bound_to_a_client_id_of_the_same_name(
    board: Board, machine: Machine
) -> None:
    board.users.put("greenhouse", Role.ADMIN, "a long password", client_id="greenhouse")
    with pytest.raises(Conflict, match="no node's"):
        machine.ask(board.code(id="greenhouse"))
    with pytest.raises(Conflict, match="no node's"):
        board.users.enrol("greenhouse", "another password")
    found = board.users.verify("greenhouse", "a long password")
    assert found is not None
    assert found.role == Role.ADMIN


def test_a_disabled_node_is_not_let_in_by_asking_again(board: Board, machine: Machine) -> None:
    code = board.code()
    machine.join(code)
    board.users.disable("greenhouse")
    with pytest.raises(Forbidden, match="callboard user enable greenhouse"):
        machine.ask(code)
    assert board.users.find("greenhouse") is None


def test_a_renewed_certificate_makes_the_earlier_one_worthless_and_leaves_the_password(
    board: Board, machine: Machine
) -> None:
    got = machine.join(board.code())
    machine.key = new_key()
    renewed = board.desk.renew(Renew(csr=machine.csr), "greenhouse")
    user = board.users.verify("greenhouse", got.password)
    assert user is not None
    assert user.certificate == fingerprint_of_pem(renewed.certificate)
    assert board.users.find_certificate(fingerprint_of_pem(got.certificate)) is None
    for other in ("viewer", "nobody"):
        with pytest.raises(Forbidden):
            board.desk.renew(Renew(csr=machine.csr), other)
    with pytest.raises(BadRequest):
        board.desk.renew(Renew(csr="nonsense"), "greenhouse")


def test_a_request_that_proves_nothing_uses_no_code_up(board: Board) -> None:
    code = board.code()
    with pytest.raises(BadRequest, match="csr"):
        board.desk.enrol(Enrol(token=code.token, id="pi", csr="nonsense"), ME)
    Machine(board).join(code)


def test_a_rotation_is_finished_once_every_node_has_renewed(board: Board, machine: Machine) -> None:
    machine.join(board.code())
    Machine(board, "gone").join(board.code())
    with pytest.raises(Conflict, match="no rotation"):
        board.rotation.finish(force=True)
    before = board.rotation.standing()
    assert (before.old, before.not_renewed) == (None, [])
    now = board.rotation.rotate()
    assert (now.old, now.not_renewed) == (before.fingerprint, ["gone", "greenhouse"])
    with pytest.raises(Conflict, match=r"gone, greenhouse;.*--give-up"):
        board.rotation.finish(force=False)
    board.desk.renew(Renew(csr=machine.csr), "greenhouse")
    Machine(board, "new").join(board.code())
    assert board.rotation.standing().not_renewed == ["gone"]
    done, lost = board.rotation.finish(force=True)
    assert done.old is None
    assert lost == ["gone"]
    given_up, renewed = board.users.find("gone"), board.users.find("greenhouse")
    assert given_up is not None
    assert renewed is not None
    assert (given_up.certificate, bool(renewed.certificate)) == ("", True)
    assert board.rotated == ["rotate", "finish"]


def test_codes_of_before_a_rotation_still_fit_the_board(board: Board, machine: Machine) -> None:
    from callboard_core.trust import is_in_bundle

    code = board.code()
    board.rotation.rotate()
    assert is_in_bundle(board.keys.authority.bundle, code.authority)
    assert fingerprint_of_pem(machine.join(code).bundle) == board.keys.authority.fingerprint


def test_everything_is_remembered_over_a_restart(board: Board, machine: Machine, tmp_path: Path) -> None:
    code, asking = board.code(), board.code(ask=True)
    machine.join(code)
    waiting = Machine(board, "roof").wait(asking)
    board.database.close()
    again = Board(tmp_path)
    with pytest.raises(Conflict):
        Machine(again, "thief").ask(code)
    again.desk.decide(2, "ann", accept=True)
    assert isinstance(again.desk.collect(waiting.ticket), Enrolled)


def test_the_boards_certificate_follows_its_addresses_while_it_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    addresses = ["localhost"]
    keys = Keys(
        Authority(tmp_path, "callboard"), Settings(state=tmp_path), names=lambda more: [*addresses, *more]
    )
    keys.tend()
    first = keys.authority.files.server.read_bytes()
    keys.tend()
    assert keys.authority.files.server.read_bytes() == first
    addresses.append("192.0.2.7")
    with caplog.at_level("INFO"):
        keys.tend()
    assert keys.authority.files.server.read_bytes() != first
    assert "addresses changed" in caplog.text
