import subprocess
import sys
import threading
from pathlib import Path

import pytest

from callboard_core import runtime
from callboard_core.errors import Conflict, Failed
from callboard_core.runtime import Runtime, hold_state, is_held, read_runtime, write_private, write_runtime


@pytest.fixture
def told(tmp_path: Path) -> Runtime:
    return Runtime(
        site="callboard",
        version="0.1.0",
        pid=1,
        started=1.0,
        ready=True,
        engine="embedded",
        mqtt=runtime.Mqtt(host="127.0.0.1", port=1883, url="mqtt://127.0.0.1:1883"),
        http=runtime.Http(url="http://127.0.0.1:8470"),
        pids={"broker": 2},
        roles={"broker": runtime.RoleState(state="ready", pid=2)},
        credentials={"viewer": runtime.CredentialAt(username="viewer", password_file=tmp_path / "p")},
    )


def test_what_is_written_is_read_while_the_folder_is_held(tmp_path: Path, told: Runtime):
    with hold_state(tmp_path):
        write_runtime(tmp_path, told)
        assert read_runtime(tmp_path) == told
        assert runtime.runtime_file(tmp_path).stat().st_mode & 0o777 == 0o600
    assert read_runtime(tmp_path) is None, "a file left behind is not believed"


def test_nothing_is_read_before_it_is_written_or_from_a_folder_that_is_not_there(tmp_path: Path):
    with hold_state(tmp_path):
        assert read_runtime(tmp_path) is None
    assert read_runtime(tmp_path / "nowhere") is None


def test_a_damaged_file_is_a_clear_error(tmp_path: Path):
    with hold_state(tmp_path):
        runtime.runtime_file(tmp_path).write_text("{")
        with pytest.raises(Failed, match="damaged"):
            read_runtime(tmp_path)


def test_a_second_holder_is_told_of_the_first(tmp_path: Path):
    code = (
        "import sys, pathlib; from callboard_core.runtime import hold_state\n"
        "with hold_state(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert is_held(tmp_path)
        with pytest.raises(Conflict, match=rf"pid {other.pid}\)") as caught, hold_state(tmp_path):
            pass
        assert "--state" in caught.value.message
        other.kill()
        other.wait()
    with hold_state(tmp_path):
        assert is_held(tmp_path)


def test_asking_whether_a_folder_is_held_never_keeps_anybody_from_holding_it(tmp_path: Path):
    (tmp_path / "up.lock").touch()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            is_held(tmp_path)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(50):
            with hold_state(tmp_path):
                pass
    finally:
        stop.set()
        asking.join()


def test_a_private_file_is_written_whole_or_not_at_all(tmp_path: Path):
    file = tmp_path / "secret"
    write_private(file, "one")
    with pytest.raises(UnicodeEncodeError):
        write_private(file, "two \ud800")
    assert file.read_text() == "one"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]
