"""Artifacts over HTTP: the board's routes and the client that nodes and callers use, on a real board."""

from __future__ import annotations

import hashlib
import http.client
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from callboard_core.artifacts import HttpArtifacts
from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.errors import BadRequest, Failed, Forbidden, NotFound, TooLarge, Unauthorized, Unavailable
from callboard_core.link import Credential
from support.boards import PASSWORDS, BoardProcess, board_process, eventually
from support.engines import running

MIB = 1024 * 1024


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
        wrong = node.put(path, content=data[1000:], headers={"Upload-Offset": "1000", "Upload-Length": "5000"})
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
