"""callboard_core.artifacts against a server that answers what the test says."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from callboard_core import artifacts
from callboard_core.artifacts import HttpArtifacts
from callboard_core.calls.artifacts import LIMIT, ArtifactRef
from callboard_core.errors import (
    BadRequest,
    Failed,
    Forbidden,
    NotFound,
    Overloaded,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from callboard_core.link import Credential

#: More than is sent without asking.
DATA = b"content" * 40_000
SMALL = b"content" * 1000
REF = ArtifactRef(
    sha256=hashlib.sha256(DATA).hexdigest(), size=len(DATA), type="a/b", url="http://elsewhere.invalid/x"
)

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def server(*answers: Answer) -> Iterator[tuple[str, list[tuple[str, str, dict[str, str]]]]]:
    """A server that gives these answers, one after the other; yields its URL and what was asked."""
    left, asked = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def handle_one(self) -> None:
            asked.append((self.command, self.path, dict(self.headers)))
            left.pop(0)(self)

        do_HEAD = do_GET = do_PUT = handle_one  # noqa: N815 - as the base class wants it

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    thread = threading.Thread(target=running.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}", asked
        assert left == []
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def says(status: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def hangs_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "_FIRST_PAUSE", 0.01)


def test_content_comes_from_our_board_wherever_the_reference_points():
    with server(says(200, DATA)) as (url, asked), HttpArtifacts(url, Credential("node", "pass")) as store:
        assert store.get(REF) == DATA
    [(method, path, headers)] = asked
    assert (method, path) == ("GET", f"/api/v1/artifacts/{REF.sha256}")
    assert headers["Authorization"] == "Basic bm9kZTpwYXNz"


def test_what_breaks_off_goes_on_from_there():
    half = len(DATA) // 2
    with (
        server(
            says(200, DATA[:half], Content_Length=str(len(DATA)), Connection="close"),
            hangs_up,
            says(206, DATA[half:]),
        ) as (url, asked),
        HttpArtifacts(url) as store,
    ):
        assert store.get(REF) == DATA
    assert [headers.get("Range") for _, _, headers in asked] == [None, f"bytes={half}-", f"bytes={half}-"]


def test_a_part_of_something_else_is_fetched_once_more_from_the_start(tmp_path):
    (tmp_path / f".x.{REF.sha256[:16]}.part").write_bytes(b"?" * 10)
    with server(says(206, DATA[10:]), says(200, DATA)) as (url, _), HttpArtifacts(url) as store:
        assert store.get_file(REF, tmp_path / "x").read_bytes() == DATA


@pytest.mark.parametrize("body", [DATA[::-1], DATA + b"!", DATA[:-1] + b"!"])
def test_what_is_not_what_it_was_is_not_taken(body, tmp_path):
    with server(says(200, body)) as (url, _), HttpArtifacts(url) as store, pytest.raises(Failed):
        store.get_file(REF, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_already_is_not_fetched(tmp_path):
    (tmp_path / "x").write_bytes(DATA)
    with server() as (url, asked), HttpArtifacts(url) as store:
        store.get_file(REF, tmp_path / "x")
    assert asked == []
    assert [one.name for one in tmp_path.iterdir()] == ["x"]


def test_an_upload_asks_first_and_sends_what_is_missing():
    with (
        server(says(404, Upload_Offset="2000"), says(201, REF.model_dump_json().encode())) as (url, asked),
        HttpArtifacts(url) as store,
    ):
        assert store.put(io.BytesIO(DATA), type="a/b") == REF
    assert [
        (method, headers.get("Upload-Offset"), headers["Upload-Length"]) for method, _, headers in asked
    ] == [
        ("HEAD", None, str(len(DATA))),
        ("PUT", "2000", str(len(DATA))),
    ]
    assert asked[1][2]["Content-Length"] == str(len(DATA) - 2000)


def test_what_is_small_is_sent_without_asking():
    ref = REF.model_copy(update={"sha256": hashlib.sha256(SMALL).hexdigest(), "size": len(SMALL)})
    with (
        server(says(201, ref.model_dump_json().encode())) as (url, asked),
        HttpArtifacts(url) as store,
    ):
        assert store.put(SMALL) == ref
    assert [(method, headers["Content-Length"]) for method, _, headers in asked] == [("PUT", str(len(SMALL)))]


@pytest.mark.parametrize("first", [hangs_up, says(503), says(202, Upload_Offset="4000")])
def test_what_is_small_and_did_not_get_through_is_asked_for(first):
    with (
        server(first, says(200, Content_Length=str(len(SMALL)), Content_Type="a/b")) as (url, asked),
        HttpArtifacts(url) as store,
    ):
        assert store.put(SMALL).type == "a/b"
    assert [method for method, _, _ in asked] == ["PUT", "HEAD"]


def test_an_upload_that_somebody_else_takes_over_asks_again(tmp_path):
    body = b'{"error": {"code": "conflict", "message": "somebody else is sending this"}}'
    with (
        server(
            says(404, Upload_Offset="0"),
            says(409, body, Upload_Offset="10"),
            says(404, Upload_Offset="10"),
            says(202, Upload_Offset="4000"),
            says(200, Content_Length=str(len(DATA)), Content_Type="image/png"),
        ) as (url, asked),
        HttpArtifacts(url) as store,
    ):
        (tmp_path / "x").write_bytes(DATA)
        found = store.put_file(tmp_path / "x", type="a/b")
    assert (found.sha256, found.type) == (REF.sha256, "image/png")  # as the board has it
    assert len(asked) == 5


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (says(413, Upload_Limit="10"), TooLarge),
        (says(507), Unavailable),
        (says(401), Unauthorized),
        (says(403), Forbidden),
        (says(400), BadRequest),
        (says(500), Failed),
    ],
)
def test_a_refusal_is_told_at_once(answer, error):
    with server(answer) as (url, _), HttpArtifacts(url) as store, pytest.raises(error):
        store.put(DATA)


def test_an_error_keeps_its_code_and_words():
    body = b'{"error": {"code": "bad_request", "message": "the content has another SHA-256"}}'
    with (
        server(says(404), says(400, body)) as (url, _),
        HttpArtifacts(url) as store,
        pytest.raises(BadRequest, match="another SHA-256"),
    ):
        store.put(DATA)
    with server(says(404, b"<html>")) as (url, _), HttpArtifacts(url) as store, pytest.raises(NotFound):
        store.get(REF)


def test_what_passes_is_tried_again_until_patience_is_over():
    busy = [says(503) for _ in range(3)]
    with server(*busy, says(200, DATA)) as (url, _), HttpArtifacts(url) as store:
        assert store.get(REF) == DATA
    with (
        server(says(503)) as (url, _),
        HttpArtifacts(url, patience=0.0) as store,
        pytest.raises(Overloaded),
    ):
        store.get(REF)
    with HttpArtifacts(url, patience=0.02) as store, pytest.raises(Unavailable, match="cannot fetch"):
        store.get(REF)  # nobody is there any more


def test_content_over_the_limit_is_not_even_asked_for(monkeypatch):
    monkeypatch.setattr(artifacts, "LIMIT", 10)
    with HttpArtifacts("http://127.0.0.1:1") as store, pytest.raises(TooLarge):
        store.put(b"x" * 11)
    assert LIMIT == 1024**3


def test_a_wrong_url_is_named():
    with HttpArtifacts("mqtt://board") as store, pytest.raises(BadRequest, match="mqtt://board"):
        store.get(REF)


def test_a_disk_of_ours_that_is_full_is_no_matter_of_the_network(tmp_path):
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    with (
        server(says(200, DATA)) as (url, _),
        HttpArtifacts(url) as store,
        pytest.raises(OSError, match="No space"),
    ):
        store._get(REF, Full(), None)
