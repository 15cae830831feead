"""What a renderer prints, bounded: the beginning and the end are kept, and how much is missing between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

__all__ = ["Log"]

#: Bytes of lines in one event.
_PIECE = 128 * 1024


class Log:
    """Lines of one attempt.

    Args:
        limit: bytes kept; the first half of it for the beginning.
    """

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head: list[str] = []
        self._tail: deque[str] = deque()
        self._head_size = self._tail_size = 0
        self._left_out = 0

    def add(self, line: str) -> None:
        """Take a line."""
        size = len(line.encode()) + 1
        if not self._tail and not self._left_out and self._head_size + size <= self._half:
            self._head.append(line)
            self._head_size += size
            return
        self._tail.append(line)
        self._tail_size += size
        while self._tail and self._tail_size > self._half:
            self._tail_size -= len(self._tail.popleft().encode()) + 1
            self._left_out += 1

    def lines(self) -> list[str]:
        """Return what was kept."""
        gap = [f"… {self._left_out} lines left out …"] if self._left_out else []
        return [*self._head, *gap, *self._tail]

    def pieces(self) -> Iterator[list[str]]:
        """Return what was kept, in pieces that fit a message."""
        piece: list[str] = []
        size = 0
        for line in self.lines():
            if piece and size + len(line.encode()) > _PIECE:
                yield piece
                piece, size = [], 0
            piece.append(line)
            size += len(line.encode()) + 1
        if piece:
            yield piece

    def text(self) -> str:
        """Return what was kept as a text."""
        return "".join(f"{line}\n" for line in self.lines())
