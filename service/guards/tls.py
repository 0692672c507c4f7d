"""TLS on a listener: the certificate and its key from files, checked at start, read anew when asked; and its streams.

TLS 1.2 is the oldest spoken, HTTP/1.1 the only protocol offered, renegotiation is refused (CWE-326; ASVS 5.0: 12.1.1,
12.1.2). trio's SSLStream cannot end its own side of a connection and go on reading, which an answer that closes needs:
what is left unread makes TCP reset the connection, and takes the answer along.
"""

from __future__ import annotations

import ssl
import stat
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog
import trio
from cryptography import x509

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger("gatebook.tls")

READABLE_BY_OTHERS: Final = 0o007


class TLSError(Exception):
    """The certificate or its key cannot be used. Raised by `Certificate` only; its text is one sentence."""


class Certificate:
    """A certificate with its key, in PEM files. Raises TLSError where they are no good."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._context = self._read()

    def secured(self, stream: trio.SocketStream) -> TLSStream:
        """That connection under TLS, with the certificate as read last; the handshake comes with its first use."""
        return TLSStream(stream, self._context)

    def read_anew(self) -> None:
        """Reads the files again, for connections from now on. Where they are no good, all stays as it was."""
        try:
            self._context = self._read()
        except TLSError as error:
            log.error("certificate_not_read", sentence=str(error))  # noqa: TRY400 - the sentence is all there is to say
        else:
            log.info("certificate_read", path=str(self._certificate))

    def _read(self) -> ssl.SSLContext:
        found = _contents(self._certificate, "certificate")
        _contents(self._key, "key")
        if stat.S_IMODE(self._key.stat().st_mode) & READABLE_BY_OTHERS:
            raise TLSError(f"The TLS key {self._key} can be read by everybody on this machine; chmod it to 0600.")
        try:
            ends = x509.load_pem_x509_certificates(found)[0].not_valid_after_utc
        except ValueError:
            raise TLSError(f"The TLS certificate {self._certificate} holds no certificate in PEM.") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except (ssl.SSLError, ValueError):
            raise TLSError(
                f"The TLS key {self._key} is not that of the certificate {self._certificate},"
                " is no key in PEM, or needs a password."
            ) from None
        if ends <= datetime.now(UTC):
            log.warning("certificate_expired", path=str(self._certificate), ended=ends.isoformat())
        return context


class TLSStream(trio.abc.Stream):
    """One connection under TLS, as a stream with the socket that is below it."""

    def __init__(self, raw: trio.SocketStream, context: ssl.SSLContext) -> None:
        self.socket = raw.socket
        # `https_compatible`: HTTP says by itself where a message ends, and clients do not wait for our goodbye.
        self._tls = trio.SSLStream(raw, context, server_side=True, https_compatible=True)

    async def do_handshake(self) -> None:
        """Agrees with the client on keys. Raises trio.BrokenResourceError where they cannot."""
        await self._tls.do_handshake()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As any stream."""
        return await self._tls.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As any stream."""
        await self._tls.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As any stream."""
        await self._tls.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """As any stream."""
        await self._tls.aclose()

    async def end_sending(self) -> None:
        """Tells the client that nothing follows (`close_notify`; RFC 8446, 6.1), without waiting for it to agree."""
        # What trio's own `aclose` does first. A handshake that did not come to its end has nothing to say goodbye to.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            goodbye: Callable[[], Any] = self._tls._ssl_object.unwrap  # noqa: SLF001 - there is no public way
            await self._tls._retry(goodbye, ignore_want_read=True)  # noqa: SLF001 - there is no public way


async def end_sending(stream: trio.SocketStream | TLSStream) -> None:
    """Ends our side of a connection, of which the client's may still be read. OSError where it is gone."""
    if isinstance(stream, TLSStream):
        await stream.end_sending()
    stream.socket.shutdown(trio.socket.SHUT_WR)


def _contents(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TLSError(f"The TLS {what} {path} cannot be read: {error.strerror}.") from None


def _no_password() -> bytes:
    """Instead of asking for one on a terminal that nobody watches."""
    raise ValueError
