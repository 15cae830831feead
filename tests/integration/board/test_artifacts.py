"""Artifacts over HTTP: the board's routes and the client that nodes and callers use, on a real board."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import io
import itertools
import os
import random
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from callboard_broker.errors import NoRoom
from callboard_broker.services.artifacts import Artifacts, Limits
from callboard_core.artifacts import HttpArtifacts
from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.errors import Forbidden, NotFound, TooLarge, Unauthorized, Unavailable
from callboard_core.link import Credential
from support.boards import PASSWORDS, BoardProcess, board_process, eventually
from support.engines import free_port, running
from support.root import needs_root

MIB = 1024 * 1024
LONG = os.environ.get("CALLBOARD_LONG") == "1"


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Iterator[BoardProcess]:
    with (
        running("mosquitto") as engine,
        board_process(
            tmp_path_factory.mktemp("board"), engine.port, artifacts={"limit_mb": 24, "min_free_mb": 1}
        ) as started,
    ):
        yield started


@pytest.fixture
def artifacts(board) -> Iterator[HttpArtifacts]:
    store = store_of(board, "node")
    yield store
    store.close()


@pytest.fixture
def node(board) -> Iterator[httpx.Client]:
    with board.client("node") as client:
        yield client


def store_of(board: BoardProcess, role: str, **settings: float) -> HttpArtifacts:
    return HttpArtifacts(board.url, Credential(role, PASSWORDS[role]), **settings)


def made(size: int, seed: int = 1) -> tuple[bytes, str, str]:
    """Content nobody else has, its hash, and its path."""
    data = random.Random(f"{seed} {size}").randbytes(size)
    digest = hashlib.sha256(data).hexdigest()
    return data, digest, f"/api/v1/artifacts/{digest}"


def on_disk(board: BoardProcess, digest: str) -> Path:
    return board.state / "artifacts" / digest[:2] / digest


def refer(data: bytes) -> ArtifactRef:
    return ArtifactRef(sha256=hashlib.sha256(data).hexdigest(), size=len(data), type="x/y", url="")


class TestStoring:
    """PUT and HEAD."""

    def test_what_was_stored_comes_back_with_its_type_and_hash(self, node, board):
        data, digest, path = made(300_000)
        answer = node.put(path, content=data, headers={"Content-Type": "image/png"})
        assert answer.status_code == 201, answer.text
        assert answer.json() == {"sha256": digest, "size": len(data), "type": "image/png", "url": path}
        got = node.get(path)
        assert got.content == data
        assert got.headers["content-type"] == "image/png"
        assert got.headers["etag"] == f'"{digest}"'
        assert node.head(path).headers["content-length"] == str(len(data))
        assert on_disk(board, digest).read_bytes() == data

    def test_of_what_is_not_there_head_tells_where_to_go_on(self, node):
        data, _, path = made(5000, 2)
        answer = node.head(path)
        assert (answer.status_code, answer.headers["upload-offset"]) == (404, "0")
        part = node.put(path, content=data[:2000], headers={"Upload-Length": "5000"})
        assert (part.status_code, part.headers["upload-offset"]) == (202, "2000")
        assert node.head(path).headers["upload-offset"] == "2000"
        wrong = node.put(
            path, content=data[1000:], headers={"Upload-Offset": "1000", "Upload-Length": "5000"}
        )
        assert (wrong.status_code, wrong.headers["upload-offset"]) == (409, "2000")
        rest = node.put(path, content=data[2000:], headers={"Upload-Offset": "2000", "Upload-Length": "5000"})
        assert rest.status_code == 201
        assert node.get(path).content == data

    def test_put_and_get(self, artifacts, tmp_path):
        data, digest, _ = made(3 * MIB, 3)
        file = tmp_path / "a.png"
        file.write_bytes(data)
        told = []
        ref = artifacts.put_file(file, progress=lambda done, total: told.append((done, total)))
        assert (ref.sha256, ref.size, ref.type) == (digest, len(data), "image/png")
        assert told[-1] == (len(data), len(data))
        back = artifacts.get_file(ref, tmp_path / "b.png")
        assert back.read_bytes() == data
        assert artifacts.get(ref) == data
        assert [one.name for one in tmp_path.iterdir()] == ["a.png", "b.png"]

    def test_the_board_is_reached_ahead_of_the_first_transfer_which_then_uses_the_same_connection(
        self, board, artifacts
    ):
        with proxy(board) as way:
            store = HttpArtifacts(way.url, Credential("node", PASSWORDS["node"]))
            store.reach()
            assert len(way.ends) == 2
            data, *_ = made(2000, 5)
            assert artifacts.get(store.put(data)) == data
            assert len(way.ends) == 2, "a second connection was made"
            store.close()
        with pytest.raises(Unauthorized):
            HttpArtifacts(board.url, Credential("node", "not the password")).reach()

    def test_what_the_board_has_is_not_sent_again(self, board, artifacts, tmp_path):
        data, digest, _ = made(2 * MIB, 4)
        with proxy(board) as way:
            store = HttpArtifacts(way.url, Credential("node", PASSWORDS["node"]))
            first = store.put(data, type="text/plain")
            assert way.up > len(data)
            before = way.up
            assert store.put(data, type="text/plain") == first
            assert way.up - before < 2000
            store.close()
        assert [one.name for one in on_disk(board, digest).parent.iterdir()] == [digest]

    def test_content_that_is_not_what_was_said_is_refused_and_not_kept(self, node, board):
        data, digest, path = made(40_000, 5)
        answer = node.put(path, content=data[:-1] + b"!")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")
        assert node.head(path).headers["upload-offset"] == "0"
        assert not on_disk(board, digest).exists()

    def test_more_than_was_announced_is_refused(self, node):
        data, _, path = made(9000, 6)
        answer = node.put(path, content=data, headers={"Upload-Length": "8000"})
        assert answer.status_code == 400
        assert node.head(path).headers["upload-offset"] == "0"

    @pytest.mark.parametrize(
        ("header", "value"),
        [
            ("Upload-Offset", "-1"),
            ("Upload-Length", "many"),
            ("Upload-Offset", "\xb2"),
            ("Upload-Length", ""),
        ],
    )
    def test_a_number_that_is_none_is_named(self, node, header, value):
        data, _, path = made(100, 6)
        answer = node.put(path, content=data, headers={header: value.encode("latin-1")})
        assert answer.status_code == 400
        assert header.lower() in answer.json()["error"]["message"].lower()

    def test_what_is_too_large_is_known_before_it_is_sent(self, node, artifacts):
        data, _, path = made(25 * MIB, 7)
        assert node.head(path, headers={"Upload-Length": str(len(data))}).status_code == 413
        with pytest.raises(TooLarge, match=str(24 * MIB)):
            artifacts.put(data)
        answer = node.put(path, content=data)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")

        def unknown_length() -> Iterator[bytes]:
            for start in range(0, len(data), MIB):
                yield data[start : start + MIB]

        assert node.put(path, content=unknown_length()).status_code == 413
        assert node.head(path).headers["upload-offset"] == "0"

    def test_what_is_none_as_a_name_reaches_no_file(self, board, node):
        (board.state / "secret").write_text("secret")
        for name in (
            "../secret",
            "..%2fsecret",
            "%2e%2e/secret",
            "A" * 64,
            "a" * 63,
            "a" * 65,
            "..",
            "index.db",
        ):
            for method in ("GET", "HEAD", "PUT", "DELETE"):
                answer = raw(board, f"{method} /api/v1/artifacts/{name} HTTP/1.1")
                assert answer.startswith(("HTTP/1.1 400", "HTTP/1.1 404", "HTTP/1.1 403", "HTTP/1.1 405")), (
                    method,
                    name,
                    answer,
                )
                assert "secret" not in answer.partition("\r\n\r\n")[2].replace(name, "")
        assert (board.state / "secret").read_text() == "secret"

    def test_only_a_content_type_is_taken_for_one_and_no_browser_runs_it(self, node):
        data, _, path = made(100, 8)
        assert node.put(path, content=data, headers={"Content-Type": "text/html<script>"}).status_code == 400
        assert node.put(path, content=data, headers={"Content-Type": "text/html; charset=utf-8"}).is_success
        headers = node.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in headers["content-security-policy"]

    def test_many_who_send_the_same_at_a_time_all_succeed(self, board):
        data, digest, _ = made(3 * MIB, 9)
        refs, errors = [], []

        def send() -> None:
            store = store_of(board, "node")
            try:
                refs.append(store.put(data, type="a/b"))
            except Exception as error:
                errors.append(error)
            finally:
                store.close()

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert {ref.sha256 for ref in refs} == {digest}
        assert on_disk(board, digest).read_bytes() == data
        eventually(lambda: not list((board.state / "artifacts" / "parts").glob(f"{digest}*")))


class TestWho:
    """Who may do what."""

    @pytest.mark.parametrize(
        ("role", "put", "fetch", "manage"),
        [
            ("viewer", False, True, False),
            ("operator", True, True, True),
            ("node", True, True, False),
            ("board", True, True, False),
            ("admin", True, True, True),
        ],
    )
    def test_each_role_may_do_its_part(self, board, role, put, fetch, manage):
        data, _, path = made(500, len(role))
        with board.client(role) as client, board.client("node") as other:
            assert client.put(path, content=data).is_success == put
            other.put(path, content=data)
            assert client.get(path).is_success == fetch
            assert client.head(path).is_success == fetch
            assert client.get("/api/v1/artifacts").is_success == manage
            assert client.post("/api/v1/artifacts/verify").is_success == manage
            assert client.delete(path).is_success == manage

    def test_nobody_without_a_password_gets_anything(self, board):
        with httpx.Client(base_url=board.url) as client:
            path = made(500, 10)[2]
            assert {client.request(m, path).status_code for m in ("GET", "HEAD", "PUT", "DELETE")} == {401}
        with HttpArtifacts(board.url, Credential("node", "wrong")) as store, pytest.raises(Unauthorized):
            store.put(b"x")
        with store_of(board, "viewer") as store, pytest.raises(Forbidden):
            store.put(b"not there yet")


class TestFetching:
    """GET."""

    def test_a_range_is_sent_alone(self, node):
        data, digest, path = made(5000, 11)
        node.put(path, content=data)
        for asked, start, stop in (
            ("10-19", 10, 20),
            ("4990-", 4990, 5000),
            ("-7", 4993, 5000),
            ("0-9999", 0, 5000),
        ):
            answer = node.get(path, headers={"Range": f"bytes={asked}"})
            assert answer.status_code == 206
            assert answer.content == data[start:stop]
            assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/5000"
        beyond = node.get(path, headers={"Range": "bytes=5000-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */5000")
        stale = node.get(path, headers={"Range": "bytes=1-2", "If-Range": '"other"'})
        assert (stale.status_code, stale.content) == (200, data)
        assert node.get(path, headers={"Range": "lines=1-2"}).content == data
        assert node.get(path, headers={"If-None-Match": f'"{digest}"'}).status_code == 304

    def test_what_is_not_there_is_not_found(self, node, artifacts, tmp_path):
        data, _, path = made(10, 12)
        assert node.get(path).json()["error"]["code"] == "not_found"
        with pytest.raises(NotFound):
            artifacts.get_file(refer(data), tmp_path / "x")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("size", [100, 3 * MIB + 5])
    def test_a_bit_that_flipped_on_the_boards_disk_is_noticed(self, board, node, artifacts, size):
        data, digest, path = made(size, 13)
        ref = artifacts.put(data)
        file = on_disk(board, digest)
        changed = bytearray(data)
        changed[size // 2] ^= 1
        file.write_bytes(changed)
        if size > MIB:
            with pytest.raises(httpx.RemoteProtocolError):  # less than the announced length
                node.get(path)
        else:
            assert node.get(path).status_code == 404
        assert node.head(path).status_code == 404
        assert (board.state / "artifacts" / "damaged" / digest).exists()
        with pytest.raises(NotFound):
            artifacts.get(ref)
        assert artifacts.put(data) == ref
        assert artifacts.get(ref) == data

    def test_an_operator_can_have_everything_checked(self, board, artifacts):
        data, digest, _ = made(1000, 14)
        artifacts.put(data)
        on_disk(board, digest).write_bytes(data[::-1])
        with board.client() as operator:
            assert operator.post("/api/v1/artifacts/verify").json() == {"damaged": [digest]}
            assert operator.post("/api/v1/artifacts/verify").json() == {"damaged": []}

    def test_an_operator_can_list_and_remove(self, board, artifacts):
        data, digest, path = made(1000, 15)
        artifacts.put(data, type="video/mp4")
        with board.client() as operator:
            page = operator.get("/api/v1/artifacts", params={"limit": 10_000}).json()
            [found] = [one for one in page["items"] if one["sha256"] == digest]
            assert (found["size"], found["type"], found["pinned_by"]) == (1000, "video/mp4", [])
            assert page["count"] == len(page["items"])
            assert page["size"] == sum(one["size"] for one in page["items"])
            after = operator.get("/api/v1/artifacts", params={"limit": 1, "after": digest}).json()["items"]
            assert all(one["sha256"] > digest for one in after)
            assert operator.delete(path).status_code == 204
            assert operator.delete(path).status_code == 404


class TestCuts:
    """Connections that break."""

    def test_an_upload_goes_on_where_it_was_cut(self, board, tmp_path):
        data, digest, _ = made(12 * MIB, 16)
        file = tmp_path / "scene.blend"
        file.write_bytes(data)
        with proxy(board, up=[6 * MIB]) as way:
            store = HttpArtifacts(way.url, Credential("node", PASSWORDS["node"]))
            assert store.put_file(file).sha256 == digest
            store.close()
            assert way.cuts == 1
            assert way.up < 18 * MIB
        with store_of(board, "node") as store:
            assert store.get(refer(data)) == data

    def test_a_download_goes_on_where_it_was_cut_even_in_another_process(self, board, artifacts, tmp_path):
        data, _, _ = made(12 * MIB, 17)
        ref = artifacts.put(data)
        with proxy(board, down=[5 * MIB, 3 * MIB]) as way:
            store = HttpArtifacts(way.url, Credential("node", PASSWORDS["node"]))
            told = []
            store.get_file(ref, tmp_path / "scene.blend", progress=lambda done, _: told.append(done))
            store.close()
            assert way.cuts == 2
            assert way.down < 13 * MIB
        assert told == sorted(told)
        assert (tmp_path / "scene.blend").read_bytes() == data
        (tmp_path / f".other.{ref.sha256[:16]}.part").write_bytes(data[: 11 * MIB])
        with proxy(board) as way:
            store = HttpArtifacts(way.url, Credential("node", PASSWORDS["node"]))
            store.get_file(ref, tmp_path / "other")
            store.close()
            assert way.down < 2 * MIB
        assert (tmp_path / "other").read_bytes() == data
        assert sorted(one.name for one in tmp_path.iterdir()) == ["other", "scene.blend"]

    def test_a_part_that_is_none_is_fetched_again(self, artifacts, tmp_path):
        data, _, _ = made(100_000, 18)
        ref = artifacts.put(data)
        (tmp_path / f".x.{ref.sha256[:16]}.part").write_bytes(b"?" * 50_000)
        assert artifacts.get_file(ref, tmp_path / "x").read_bytes() == data

    def test_several_who_fetch_into_one_place_wait_for_each_other(self, board, artifacts, tmp_path):
        data, _, _ = made(4 * MIB, 19)
        ref = artifacts.put(data)
        with proxy(board) as way:
            store = HttpArtifacts(way.url, Credential("node", PASSWORDS["node"]))
            threads = [threading.Thread(target=store.get_file, args=(ref, tmp_path / "x")) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            store.close()
            assert way.down < 5 * MIB
        assert (tmp_path / "x").read_bytes() == data
        assert [one.name for one in tmp_path.iterdir()] == ["x"]

    def test_a_board_that_is_away_is_waited_for_and_then_given_up(self, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        store = HttpArtifacts(f"http://127.0.0.1:{port}", patience=0.5)
        with pytest.raises(Unavailable, match="cannot store"):
            store.put(b"x")


@pytest.mark.timeout(1800 if LONG else 120)
def test_transfers_survive_cut_connections_and_killed_boards(tmp_path):
    """What arrives is what was sent, however often the way there breaks; nothing is left behind."""
    transfers, largest = (60, 16 * MIB) if LONG else (4, 3 * MIB)
    with (
        running("embedded") as engine,
        board_process(
            tmp_path / "board", engine.port, http={"port": free_port()}, artifacts={"min_free_mb": 1}
        ) as board,
    ):
        done, kills = threading.Event(), []

        def kill() -> None:
            while not done.wait(random.uniform(0.2, 4.0 if LONG else 1.0)):
                board.kill()
                kills.append(board.start())
                if not LONG:
                    break
            done.wait()  # the board dies with the thread that has started it

        def transfer(number: int) -> bool:
            chance = random.Random(number)
            data = made(chance.randrange(MIB, largest), number)[0]
            sent, back = tmp_path / f"{number}.sent", tmp_path / f"{number}.back"
            sent.write_bytes(data)
            up, down = ([chance.randrange(1 << 16, largest) for _ in range(3)] for _ in range(2))
            with (
                proxy(board, up, down) as way,
                HttpArtifacts(way.url, Credential("node", PASSWORDS["node"])) as store,
            ):
                same = store.get_file(store.put_file(sent), back).read_bytes() == data
            sent.unlink()
            back.unlink()
            return same

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            with ThreadPoolExecutor(4) as pool:
                assert all(pool.map(transfer, range(transfers)))
                more = itertools.count(transfers, 4)
                while not kills:  # they were quicker than the first kill
                    first = next(more)
                    assert all(pool.map(transfer, range(first, first + 4)))
        finally:
            done.set()
            killer.join()
        assert [one.name for one in tmp_path.iterdir()] == ["board"]
        parts = board.state / "artifacts" / "parts"
        assert not list(parts.iterdir())


@needs_root
def test_a_disk_that_fills_up_while_something_comes_is_said_over_http(board, node, artifacts):
    parts = board.state / "artifacts" / "parts"
    data, _, path = made(4 * MIB, 22)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", parts], check=True)
    try:
        answer = node.put(path, content=data)
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "unavailable")
        assert list(parts.iterdir()) == []
        with pytest.raises(Unavailable, match="is full"):
            artifacts.put(data)
    finally:
        subprocess.run(["umount", parts], check=True)
    assert artifacts.put(data).size == len(data)


@needs_root
def test_a_full_disk_is_said_and_heals(tmp_path):
    """On a real file system of 12 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", folder], check=True)
    try:
        store = Artifacts(folder / "artifacts", Limits(min_free=0)).load()
        first, second = made(6 * MIB, 20)[0], made(8 * MIB, 21)[0]
        ref = store.put(first)
        with pytest.raises(NoRoom):
            store.put(second)  # its length is known
        upload = store.begin(hashlib.sha256(second).hexdigest())
        with pytest.raises((NoRoom, OSError)) as found:
            for start in range(0, len(second), MIB):
                upload.write(second[start : start + MIB])
        upload.cut(discard=True)
        assert isinstance(found.value, NoRoom) or found.value.errno == errno.ENOSPC
        with pytest.raises(NoRoom):
            store.put(io.BytesIO(second))  # its length is not
        assert b"".join(store.read(ref.sha256)) == first
        store.remove(ref.sha256)
        assert store.put(second).size == len(second)
        store.close()
    finally:
        subprocess.run(["umount", folder], check=True)


def raw(board: BoardProcess, line: str) -> str:
    """Send a request as it stands, which no client library would, and return the answer."""
    host, _, port = board.url.removeprefix("http://").partition(":")
    word = base64.b64encode(f"operator:{PASSWORDS['operator']}".encode()).decode()
    with socket.create_connection((host, int(port)), 10) as connection:
        head = f"{line}\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic {word}\r\nContent-Length: 0\r\n\r\n"
        connection.sendall(head.encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer.decode(errors="replace")


class Proxy:
    """Passes on connections to the board, and cuts one after so many bytes, once for each number."""

    def __init__(self, target: str, up: list[int], down: list[int]) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target, self._limits = (host, int(port)), {"up": up, "down": down}
        self.up = self.down = self.cuts = 0
        self._lock = threading.Lock()
        self.ends: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:  # the board is away
                near.close()
                continue
            self.ends += [near, far]
            pair = [("up", near, far), ("down", far, near)]
            for way, source, drain in pair:
                thread = threading.Thread(target=self._pass_on, args=(way, source, drain))
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, way: str, source: socket.socket, drain: socket.socket) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                drain.sendall(data)
                passed += len(data)
                with self._lock:
                    setattr(self, way, getattr(self, way) + len(data))
                    if self._limits[way] and passed > self._limits[way][0]:
                        self._limits[way].pop(0)
                        self.cuts += 1
                        break
        with contextlib.suppress(OSError):
            drain.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it, which closes it
        source.close()  # now, or a sender would wait for room that nobody makes any more

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for one in self.ends:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in self.ends:
            one.close()


@contextlib.contextmanager
def proxy(board: BoardProcess, up: list[int] | None = None, down: list[int] | None = None) -> Iterator[Proxy]:
    made = Proxy(board.url, up or [], down or [])
    try:
        yield made
    finally:
        made.close()
