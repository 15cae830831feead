"""What the board does when one of its tasks in the background fails."""

import asyncio

import pytest

from callboard_broker import board as module
from callboard_broker.board import Board


@pytest.fixture
def board():
    return object.__new__(Board)


async def test_housekeeping_goes_on_after_a_failure(board, monkeypatch, caplog):
    tidied = asyncio.Event()
    loop, failures = asyncio.get_running_loop(), [KeyError("card")]

    class Registry:
        def tidy(self):
            if failures:
                raise failures.pop()
            loop.call_soon_threadsafe(tidied.set)

    monkeypatch.setattr(module, "_TIDY_EVERY", 0.01)
    board.registry = Registry()
    task = asyncio.create_task(board._tidy())
    await asyncio.wait_for(tidied.wait(), 10)
    task.cancel()
    assert "housekeeping failed; going on" in caplog.text


async def test_the_board_ends_with_what_its_http_server_ended_with(board):
    class Http:
        async def wait(self):
            raise OSError("no more sockets")

    board._failed, board._http = asyncio.get_running_loop().create_future(), Http()
    with pytest.raises(OSError, match="no more sockets"):
        await asyncio.wait_for(board.serve(), 10)
