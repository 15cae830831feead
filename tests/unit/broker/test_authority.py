"""The board's certificate authority: what it certifies and what not, its files, crashes in between, and its successor."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from callboard_broker.access import authority as module
from callboard_broker.access.authority import Authority
from callboard_broker.access.names import lan_hosts, server_names
from callboard_core.errors import BadRequest, Conflict, Failed
from callboard_core.runtime import write_private
from callboard_core.settings import Lan
from callboard_core.trust import fingerprint_of_pem, pinned_context
from callboard_core.trust.keys import common_name_of, new_key, read_key, signing_request
from callboard_core.trust.signing import verify

NAMES = ("localhost", "127.0.0.1", "::1", "board.local")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path, "callboard")
    made.ensure(NAMES)
    return made


class Node:
    """A node's key and certificate, as files."""

    def __init__(self, folder: Path, authority: Authority, name: str = "greenhouse") -> None:
        self.key, self.certificate = folder / f"{name}.key", folder / f"{name}.crt"
        self.key.write_text(new_key())
        self.certificate.write_text(authority.certify(signing_request(self.key.read_text(), name), name))
        self.bundle = authority.bundle

    def context(self, bundle: str = "") -> ssl.SSLContext:
        return pinned_context(bundle or self.bundle, certificate=self.certificate, key=self.key)


def server_context(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.files.server)
    context.load_verify_locations(authority.files.bundle)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = None) -> dict[str, object]:
    """Connect; returns the client's certificate as the server sees it. Raises what the client, or else the server, met."""
    ours, theirs = socket.socketpair()
    found: list[object] = []

    def serve() -> None:
        with theirs:
            try:
                with server.wrap_socket(theirs, server_side=True) as wrapped:
                    found.append(wrapped.getpeercert() or {})
                    wrapped.sendall(b"!")
            except OSError as error:
                found.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours, client.wrap_socket(ours, server_hostname=name) as wrapped:
            wrapped.recv(1)
    finally:
        thread.join()
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]  # type: ignore[return-value]


def subject(peer: dict[str, object]) -> object:
    return peer["subject"]


def test_a_node_and_its_board_know_each_other(authority: Authority, tmp_path: Path) -> None:
    node = Node(tmp_path, authority)
    peer = handshake(server_context(authority), node.context())
    assert subject(peer) == ((("commonName", "greenhouse"),),)


def test_other_clients_and_browsers_find_the_name_and_the_addresses_in_the_certificate(
    authority: Authority,
) -> None:
    client = ssl.create_default_context(cafile=str(authority.files.authority))
    for name in NAMES:
        assert handshake(server_context(authority), client, name) == {}
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(server_context(authority), client, "elsewhere")


def test_a_board_with_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "callboard")
    other.ensure(NAMES)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_context(other), pinned_context(authority.bundle))
    with pytest.raises(ssl.SSLError):
        handshake(server_context(other), Node(tmp_path, authority).context(other.bundle))


def test_a_node_cannot_pose_as_the_board(authority: Authority, tmp_path: Path) -> None:
    node = Node(tmp_path, authority)
    impostor = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    impostor.load_cert_chain(node.certificate, node.key)
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(impostor, pinned_context(authority.bundle))


def test_the_boards_certificate_is_no_clients(authority: Authority) -> None:
    client = pinned_context(authority.bundle, certificate=authority.files.server)
    with pytest.raises(ssl.SSLError):
        handshake(server_context(authority), client)


def test_of_a_request_only_the_key_counts(authority: Authority) -> None:
    key = read_key(new_key())
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = authority.certify(greedy.public_bytes(serialization.Encoding.PEM).decode(), "pi")
    made = x509.load_pem_x509_certificate(pem.encode())
    assert common_name_of(pem) == "pi"
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(x509.ExtensionNotFound):
        made.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert made.public_key() == key.public_key()
    with pytest.raises(BadRequest, match="csr"):
        authority.certify("nonsense", "pi")


def test_certificates_are_valid_for_a_machine_whose_clock_has_stopped_in_1970(authority: Authority) -> None:
    for pem in (authority.bundle, authority.files.server.read_text()):
        made = x509.load_pem_x509_certificates(pem.encode())[0]
        assert made.not_valid_before_utc.year == 1970
        assert made.not_valid_after_utc == authority.ends


def test_nothing_is_made_twice_and_everything_is_private(authority: Authority, tmp_path: Path) -> None:
    folder = authority.files.folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert not Authority(tmp_path, "callboard").ensure(reversed(NAMES))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir() if path.name != ".lock"} == {0}
    folder.chmod(0o755)
    authority.ensure(NAMES)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_servers_certificate_follows_the_machines_addresses(authority: Authority) -> None:
    before = authority.fingerprint
    assert authority.ensure([*NAMES, "192.0.2.7"])
    client = ssl.create_default_context(cafile=str(authority.files.authority))
    handshake(server_context(authority), client, "192.0.2.7")
    assert authority.fingerprint == before


def test_the_names_of_a_board_are_its_machines() -> None:
    names = server_names(["board.example.org"], host="Pi.fritz.box", addresses=["192.0.2.7", "127.0.0.1"])
    assert set(names) == {
        "127.0.0.1",
        "::1",
        "localhost",
        "192.0.2.7",
        "pi.fritz.box",
        "pi.local",
        "board.example.org",
    }
    assert "127.0.0.1" in server_names()
    assert "local" not in " ".join(server_names(host="not a host name", addresses=[])).replace(
        "localhost", ""
    )


@pytest.mark.parametrize(
    ("bind", "names", "hosts"),
    [
        ("0.0.0.0", [], ["192.0.2.7"]),
        ("0.0.0.0", ["board.example.org"], ["board.example.org", "192.0.2.7"]),
        ("::", [], ["192.0.2.7", "2001:db8::7"]),
        ("192.0.2.7", [], ["192.0.2.7"]),
    ],
)
def test_other_machines_are_told_the_addresses_that_are_listened_on(
    bind: str, names: list[str], hosts: list[str]
) -> None:
    own = ["127.0.0.1", "192.0.2.7", "::1", "2001:db8::7"]
    assert lan_hosts(Lan(bind=bind, names=names), own) == hosts
    assert lan_hosts(Lan(bind=bind), ["127.0.0.1"])[0] in {"127.0.0.1", bind}


@pytest.mark.parametrize("name", ["ca.crt", "bundle.crt", "server.pem", "update.pub"])
def test_what_can_be_made_anew_is(authority: Authority, name: str) -> None:
    path, before = authority.files.folder / name, authority.fingerprint
    for content in (None, b"\xff damaged"):
        path.unlink() if content is None else path.write_bytes(content)
        authority.ensure(NAMES)
        assert b"damaged" not in path.read_bytes()
    assert authority.fingerprint == before
    handshake(server_context(authority), pinned_context(authority.bundle))


@pytest.mark.parametrize("name", ["ca.key", "update.key"])
@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_key_is_named_and_never_replaced(authority: Authority, name: str, content: bytes) -> None:
    path = authority.files.folder / name
    path.write_bytes(content)
    with pytest.raises(Failed, match=rf"{name} is damaged .*restore it .*every node has to join again"):
        authority.ensure(NAMES)
    assert path.read_bytes() == content


def test_a_key_beside_the_certificate_of_another_is_damaged(authority: Authority, tmp_path: Path) -> None:
    path = authority.files.folder / "ca.key"
    path.write_text(new_key() + authority.bundle)
    with pytest.raises(Failed, match="not that of the key"):
        Authority(tmp_path, "callboard").ensure(NAMES)


def _ensure(state: Path) -> None:
    Authority(state, "callboard").ensure(NAMES)


def test_processes_that_start_at_once_make_one_authority(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from callboard_broker.access.authority import Authority\n"
    code += f"sys.stdin.read(); Authority(Path(sys.argv[1]), 'callboard').ensure({NAMES})"
    command = [sys.executable, "-c", code, str(tmp_path)]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(3)]
    for child in children:
        child.stdin.close()  # type: ignore[union-attr]  # all have been started: now go
    assert [child.wait() for child in children] == [0] * 3
    made = Authority(tmp_path, "callboard")
    assert not made.ensure(NAMES)
    handshake(server_context(made), pinned_context(made.bundle))


class _Killed(BaseException):
    pass


def _killed(monkeypatch: pytest.MonkeyPatch, at: int, work: Callable[[], object]) -> bool:
    """Do ``work`` and end it before its write number ``at``, as a kill would; returns whether it came so far."""
    left = [at]

    def dying(path: Path, text: str) -> None:
        if not left[0]:
            raise _Killed
        left[0] -= 1
        write_private(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_private", dying)
        try:
            work()
        except _Killed:
            return True
    return False


def test_killed_at_any_moment_of_the_first_start_the_next_one_finishes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = 0
    while _killed(monkeypatch, deaths, partial(_ensure, tmp_path / str(deaths))):
        again = Authority(tmp_path / str(deaths), "callboard")
        again.ensure(NAMES)
        handshake(server_context(again), pinned_context(again.bundle))
        deaths += 1
    assert deaths == 6


def test_killed_at_any_moment_of_a_rotation_nobody_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths, killed = 0, True
    while killed:
        made = Authority(tmp_path / str(deaths), "callboard")
        made.ensure(NAMES)
        old = made.bundle
        killed = _killed(monkeypatch, deaths, partial(made.rotate, NAMES))
        again = Authority(tmp_path / str(deaths), "callboard")
        again.ensure(NAMES)
        handshake(server_context(again), pinned_context(old))
        handshake(server_context(again), pinned_context(again.bundle))
        deaths += killed
    assert deaths == 4


def test_during_a_rotation_old_and_new_nodes_and_boards_know_each_other(
    authority: Authority, tmp_path: Path
) -> None:
    old, old_fingerprint = Node(tmp_path, authority, "old"), authority.fingerprint
    authority.rotate(NAMES)
    assert authority.old_fingerprint == old_fingerprint != authority.fingerprint
    assert authority.fingerprint == fingerprint_of_pem(authority.bundle)
    new = Node(tmp_path, authority, "new")
    server = server_context(authority)
    for context in (old.context(), old.context(new.bundle), new.context(), new.context(old.bundle)):
        assert handshake(server, context)
    # A client that was given the new authority only, and one with the old one that checks names.
    handshake(server, pinned_context(authority.files.authority.read_text()))
    names = ssl.create_default_context(cadata=old.bundle)
    handshake(server, names, "localhost")
    with pytest.raises(Conflict, match="under way already"):
        authority.rotate(NAMES)


def test_once_a_rotation_is_finished_the_old_authority_counts_no_more(
    authority: Authority, tmp_path: Path
) -> None:
    old = Node(tmp_path, authority, "old")
    with pytest.raises(Conflict, match="no rotation"):
        authority.finish(NAMES)
    authority.rotate(NAMES)
    new = Node(tmp_path, authority, "new")
    authority.finish(NAMES)
    assert authority.old_fingerprint is None
    server = server_context(authority)
    assert handshake(server, new.context())
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, old.context())
    with pytest.raises(ssl.SSLError):
        handshake(server, old.context(authority.bundle))


def test_another_process_sees_the_rotation(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "callboard")
    assert other.fingerprint == authority.fingerprint
    authority.rotate(NAMES)
    assert other.fingerprint == authority.fingerprint


def test_updates_are_signed_with_a_key_that_a_rotation_leaves_alone(authority: Authority) -> None:
    pinned = authority.update_key
    authority.rotate(NAMES)
    verify(pinned, b"manifest", authority.sign_update(b"manifest"))
    assert (authority.files.folder / "update.pub").read_text().strip() == pinned
