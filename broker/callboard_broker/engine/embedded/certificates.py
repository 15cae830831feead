"""The TLS context of a listener, made anew when its files change: certificates, and the authorities that are trusted."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

from callboard_core.trust.serving import stamps

__all__ = ["ListenerContext"]


class ListenerContext:
    """What a listener shows, and whose clients' certificates it takes.

    A context can learn authorities, not forget them. So the listener keeps one that hands every handshake, as it begins,
    to the latest that was made of the files.

    Args:
        certfile: the server's certificate and what leads from it to its authority, PEM.
        keyfile: its key.
        cafile: the authorities of clients' certificates, PEM; without authorities no certificate is asked for.
        capath: a folder of such files.
        cadata: such a text, or its DER.

    Raises:
        OSError: a file cannot be read, or the key is another certificate's.
    """

    def __init__(
        self,
        certfile: str | Path,
        keyfile: str | Path | None,
        *,
        cafile: str | Path | None = None,
        capath: str | Path | None = None,
        cadata: str | bytes | None = None,
    ) -> None:
        self._own = certfile, keyfile
        self._trusted = cafile, capath, cadata
        self._latest = self.context = self._make()
        self.context.sni_callback = self._hand_over

    def renew(self) -> None:
        """Read the files again; connections stay.

        Raises:
            OSError: as at the start; what was in force stays in force.
        """
        self._latest = self._make()

    def stamps(self) -> list[tuple[int, int]]:
        """Return something that is another once a file is.

        Raises:
            OSError: a file is not there.
        """
        return stamps(self._files())

    def _files(self) -> Iterable[Path]:
        return (Path(file) for file in (self._own[0], self._trusted[0]) if file)

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*self._own)
        if any(self._trusted):
            context.load_verify_locations(*self._trusted)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """OpenSSL calls this for every handshake, whether the client names a server or not."""
        connection.context = self._latest
