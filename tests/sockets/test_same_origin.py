"""Cross-site WebSocket hijacking: a page of another site opens no socket (CWE-1385; ASVS 5.0: 4.4.2)."""

from __future__ import annotations

from typing import Any

import pytest

from service.address import parse_network
from service.guards.proxies import Proxies
from service.guards.trio_websocket import SocketRequest
from service.metrics import Metrics
from service.sockets.same_origin import for_our_pages
from service.web.origins import Origins
from tests.guards.edge import serving_sockets, upgrade

HOST = "auth.example.org"
APP = "https://app.example.org"
TRUSTING = Origins((APP, "capacitor://localhost"))
TOLD: dict[str, Any] = {"X_Forwarded_For": b"203.0.113.9", "X_Forwarded_Proto": b"https"}


async def accept(asked: SocketRequest) -> None:
    await asked.accept()


async def status(*origins: str, host: str = HOST, **headers: bytes) -> int:
    """What becomes of an upgrade with these Origin headers."""
    metrics = Metrics()
    handler = for_our_pages(accept, TRUSTING, metrics)
    lines = "".join(f"Origin: {origin}\r\n" for origin in origins).encode("latin-1")
    request = upgrade("/", Host=host.encode(), **headers).replace(b"\r\n\r\n", b"\r\n" + lines + b"\r\n")
    proxies = Proxies((parse_network("127.0.0.1"),)) if headers else Proxies()
    async with serving_sockets(handler, proxies=proxies, close_seconds=0.1) as edge:
        answer = await edge.tell(request)
        assert edge.failures == []
    found = int(answer.split()[1])
    refused = metrics.registry.get_sample_value("gatebook_refusals_total", {"code": "cross_site", "door": "sockets"})
    assert (refused or 0) == (found == 403)
    return found


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (f"https://{HOST}", HOST),
        (f"http://{HOST}", HOST),
        (f"https://{HOST}:8443", f"{HOST}:8443"),
        (f"https://{HOST}", HOST.upper()),
        ("http://127.0.0.1:8001", "127.0.0.1:8001"),
        ("http://[::1]:8001", "[::1]:8001"),
        (APP, HOST),
        ("capacitor://localhost", HOST),
    ],
)
async def test_a_page_of_ours_or_of_a_trusted_origin_opens_one(origin: str, host: str) -> None:
    assert await status(origin, host=host) == 101


async def test_what_is_no_browser_opens_one() -> None:
    assert await status() == 101


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        f"https://{HOST}.evil.example",
        f"https://evil-{HOST}",
        f"https://evil.example/{HOST}",
        f"https://{HOST}@evil.example",
        f"https://{HOST}:8443",
        f"https://{HOST}:443",
        f"https://{HOST}/",
        f"https://{HOST.upper()}",
        f"https://{HOST}, https://{HOST}",
        f"wss://{HOST}",
        f"ftp://{HOST}",
        f"capacitor://{HOST}",
        HOST,
        f"{APP}.evil.example",
        f"{APP}:8443",
        "http://app.example.org",
        "https://localhost",
        "https://caf\xe9.example",
        "*",
    ],
)
async def test_a_page_of_anybody_else_is_refused_before_the_upgrade(origin: str) -> None:
    assert await status(origin) == 403


async def test_an_origin_that_comes_twice_is_refused() -> None:
    assert await status(f"https://{HOST}", f"https://{HOST}") == 403


async def test_the_browsers_own_word_for_it_does_not_stand_in_for_the_origin() -> None:
    assert await status("https://evil.example", Sec_Fetch_Site=b"same-origin") == 403


async def test_over_tls_a_page_that_did_not_come_over_it_is_another() -> None:
    assert await status(f"https://{HOST}", **TOLD) == 101
    assert await status(f"http://{HOST}", **TOLD) == 403
    assert await status(f"https://{HOST}", host="inside", **TOLD, X_Forwarded_Host=HOST.encode()) == 101
    assert await status("https://inside", host="inside", **TOLD, X_Forwarded_Host=HOST.encode()) == 403
