"""The embedded engine inside the test's own process, on a thread, for tests that give it objects (users, plugins)."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from callboard_broker.engine.embedded import EmbeddedEngine


class ThreadedEngine:
    """A running engine; its attributes may be looked at, its coroutines run with :meth:`call`."""

    def __init__(self, **options: Any) -> None:
        self._options = {"bind": "127.0.0.1", "port": 0} | options
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self.engine: EmbeddedEngine

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.engine = EmbeddedEngine(**self._options)
        try:
            await self.engine.start()
        except BaseException as error:  # raised again in `start`
            self._error = error
            return
        finally:
            self._ready.set()
        await self._stop.wait()
        await self.engine.stop()

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def call(self, function: Any, *args: Any) -> Any:
        """Run a plain function on the engine's loop and return what it returns."""

        async def run() -> Any:
            return function(*args)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(20)

    def address(self, listener: str = "default") -> tuple[str, int]:
        return ("127.0.0.1", self.engine.port(listener))


@contextmanager
def embedded_engine(**options: Any) -> Iterator[ThreadedEngine]:
    """A running engine with these constructor arguments."""
    engine = ThreadedEngine(**options)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


class Certificates:
    """A certificate authority in a folder, made with `openssl`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")  # fmt: skip

    def _openssl(self, *arguments: str) -> None:
        extra = [
            "-keyout",
            str(self.folder / "ca.key"),
            "-out",
            str(self.ca),
            "-subj",
            "/CN=test CA",
            "-days",
            "2",
        ]
        subprocess.run(["openssl", *arguments, *extra], check=True, capture_output=True)

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return certificate and key for a common name (and localhost)."""
        key, request, certificate = (self.folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        extensions = self.folder / "extensions"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        for arguments in (
            [
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-keyout",
                str(key),
                "-out",
                str(request),
                "-subj",
                f"/CN={name}",
            ],
            [
                "x509",
                "-req",
                "-in",
                str(request),
                "-CA",
                str(self.ca),
                "-CAkey",
                str(self.folder / "ca.key"),
                "-CAcreateserial",
                "-out",
                str(certificate),
                "-days",
                "2",
                "-extfile",
                str(extensions),
            ],
        ):
            subprocess.run(["openssl", *arguments], check=True, capture_output=True)
        return certificate, key
