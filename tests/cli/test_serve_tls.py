"""`gatebook serve` under TLS: both listeners, a new certificate at SIGHUP, and files that it does not start with."""

import json
import signal
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import open_websocket_url

from service.app import Listening
from service.cli.place import Place, settings_of
from service.cli.serving import what_next
from tests.certificates import Authority
from tests.cli.gatebook import PATIENCE, Gatebook, ended

ANYWHERE = ["--http", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--metrics", "off"]


@pytest.fixture
def authority() -> Authority:
    return Authority()


@contextmanager
def serving(gatebook: Gatebook, files: tuple[Path, Path]) -> Iterator[tuple[Any, dict[str, int]]]:
    """A process that serves with this certificate, and the ports of its listeners."""
    flags = ["--tls-certificate", str(files[0]), "--tls-key", str(files[1])]
    with gatebook.process("serve", "--json", *ANYWHERE, *flags, "--store", gatebook.store) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())["listening"]
        yield process, {name: int(told[name].rpartition(":")[2]) for name in ("http", "ws")}
        end = ended(process, signal.SIGTERM)
    assert end.code == 0
    assert "Traceback" not in end.err


async def test_both_listeners_speak_tls_and_nothing_else(gatebook: Gatebook, authority: Authority) -> None:
    trusting = authority.trusting()
    with serving(gatebook, authority.issue(gatebook.folder)) as (_, ports):
        async with httpx.AsyncClient(verify=trusting, trust_env=False) as browser:
            answer = await browser.post(f"https://localhost:{ports['http']}/api/authenticate")
            assert answer.status_code == 200
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
            assert "__Host-gatebook" in browser.cookies
            for scheme, status in (("https", 200), ("http", 403)):
                sent = {"Origin": f"{scheme}://localhost:{ports['http']}"}
                answer = await browser.post(f"https://localhost:{ports['http']}/api/authenticate", headers=sent)
                assert answer.status_code == status
            for port in ports.values():
                with pytest.raises(httpx.TransportError):
                    await browser.get(f"http://localhost:{port}/health/live")
        async with open_websocket_url(f"wss://localhost:{ports['ws']}/auth/v2", ssl_context=trusting) as socket:
            await socket.send_message(json.dumps({"route": "auth.nothing"}))
            with trio.fail_after(PATIENCE):
                assert json.loads(await socket.get_message())["data"]["error_code"] == 404


def test_a_new_certificate_is_shown_after_sighup(gatebook: Gatebook, authority: Authority) -> None:
    files = authority.issue(gatebook.folder)
    with serving(gatebook, files) as (process, ports):

        def shown() -> str:
            return ssl.get_server_certificate(("127.0.0.1", ports["http"]), timeout=PATIENCE)

        first = shown()
        authority.issue(gatebook.folder)
        assert shown() == first
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE
        while shown() != files[0].read_text():
            assert time.monotonic() < deadline
        # Files that are no good are told of, and end nothing.
        files[0].write_bytes(b"")
        process.send_signal(signal.SIGHUP)
        assert shown() != first


def test_files_that_are_no_good_end_in_two_before_a_store_is_made(gatebook: Gatebook, authority: Authority) -> None:
    certificate, key = authority.issue(gatebook.folder)
    key.chmod(0o644)
    fresh = gatebook.folder / "fresh.db"
    for flags, sentence in (
        (["--tls-certificate", str(certificate)], "tls_certificate and tls_key belong together"),
        (["--tls-key", str(key)], "tls_certificate and tls_key belong together"),
        (["--tls-certificate", str(certificate), "--tls-key", str(key)], "can be read by everybody on this machine"),
        (["--tls-certificate", str(certificate), "--tls-key", "none"], "cannot be read: No such file or directory."),
    ):
        said = gatebook("serve", *ANYWHERE, *flags, store=f"sqlite:{fresh}")
        assert (said.code, said.out) == (2, "")
        assert sentence in said.err
        assert len(said.err.splitlines()) == 1
        assert not fresh.exists()


def test_what_to_try_next_is_asked_over_tls() -> None:
    place = Place()
    settings = settings_of(place, {"tls_certificate": "a", "tls_key": "b"})
    said = "\n".join(what_next(Listening("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"), settings, place))
    assert "https://127.0.0.1:1" in said
    assert "wss://127.0.0.1:2" in said
    assert "http://127.0.0.1:3/metrics" in said
    assert "http://127.0.0.1:1" not in said
