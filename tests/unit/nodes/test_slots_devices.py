"""What a machine renders on; NVIDIA's library is played by functions behind the same C calls."""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, POINTER, c_int, c_uint, c_void_p
from types import SimpleNamespace

import pytest

from callboard_nodes.slots import devices

#: ``NVML_ERROR_GPU_IS_LOST`` of nvml.h.
LOST = 15


class Nvml(SimpleNamespace):
    """Cards as ``libnvidia-ml`` tells of them. A name of None is a card that has fallen off the bus.

    Args:
        cards: names and GiB.
        answers: what ``nvmlInit_v2`` returns.
    """

    def __init__(self, cards, answers=0):
        self.cards, self.sessions = cards, 0
        super().__init__(
            nvmlInit_v2=CFUNCTYPE(c_int)(lambda: self._open(answers)),
            nvmlShutdown=CFUNCTYPE(c_int)(self._close),
            nvmlDeviceGetCount_v2=CFUNCTYPE(c_int, POINTER(c_uint))(self._count),
            nvmlDeviceGetHandleByIndex_v2=CFUNCTYPE(c_int, c_uint, POINTER(c_void_p))(self._handle),
            nvmlDeviceGetName=CFUNCTYPE(c_int, c_void_p, c_void_p, c_uint)(self._name),
            nvmlDeviceGetMemoryInfo=CFUNCTYPE(c_int, c_void_p, POINTER(devices._Memory))(self._memory),
        )

    def _open(self, answers):
        self.sessions += not answers
        return answers

    def _close(self):
        self.sessions -= 1
        return 0

    def _count(self, count):
        count[0] = len(self.cards)
        return 0

    def _handle(self, index, handle):
        handle[0] = 0x1000 + index
        return 0

    def _name(self, handle, buffer, size):
        name = self.cards[handle - 0x1000][0]
        if name is None:
            return LOST
        ctypes.memmove(buffer, name.encode() + b"\0", min(size, len(name) + 1))
        return 0

    def _memory(self, handle, found):
        found[0].total = self.cards[handle - 0x1000][1] * 2**30
        return 0


@pytest.fixture
def nvml(monkeypatch):
    def install(*cards, **more):
        found = Nvml(cards, **more)
        monkeypatch.setattr(devices.ctypes, "CDLL", lambda library: found)
        return found

    return install


def test_nvidias_cards_are_told_with_their_memory(nvml):
    library = nvml(("NVIDIA L4", 23), ("NVIDIA H200", 141))
    assert devices.machine().devices == ("NVIDIA L4 (23 GiB)", "NVIDIA H200 (141 GiB)")
    assert library.sessions == 0, "the library was not closed"


def test_a_card_that_does_not_answer_hides_no_other(nvml):
    nvml((None, 0), ("NVIDIA L4", 23))
    assert devices.nvidia() == ("NVIDIA L4 (23 GiB)",)


def test_a_driver_that_does_not_answer_is_no_card(nvml):
    nvml(("NVIDIA L4", 23), answers=9)
    assert devices.nvidia() == ()


def test_without_nvidias_library_or_with_another_in_its_place_there_are_no_cards(monkeypatch):
    assert devices.nvidia("libno-such-library.so") == ()
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda library: object())
    assert devices.nvidia() == ()


def test_memory_is_read(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:        8000 kB\nMemFree: 1 kB\n")
    assert devices.memory(tmp_path) == 8000 * 1024
    assert devices.memory(tmp_path / "nowhere") is None
