"""Metrics: what is counted shows, two sets never mix, and the app answers GET /metrics alone."""

from typing import Any

import pytest
import trio
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from service.credentials.passwords import HashingCost, Passwords
from service.guards.hypercorn import serve_http
from service.guards.listening import bind_tcp
from service.metrics import Metrics, metrics_app


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"gatebook_{name}", labels)


async def ask(metrics: Metrics, method: str, path: str) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    await metrics_app(metrics)({"type": "http", "method": method, "path": path}, receive, send)
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"]


def test_what_is_counted_shows() -> None:
    metrics = Metrics()
    metrics.commands.labels("user.register", "done").inc()
    metrics.commands.labels("user.register", "invalid_fields").inc(2)
    metrics.batch_size.observe(3)
    metrics.log_position.set(41)
    metrics.logins.labels("route/v2", "bad_credentials").inc()
    assert value(metrics, "commands_total", type="user.register", outcome="invalid_fields") == 2
    assert value(metrics, "batch_commands_bucket", le="2.0") == 0
    assert value(metrics, "batch_commands_bucket", le="4.0") == 1
    assert value(metrics, "log_position") == 41
    shown = {family.name: family for family in text_string_to_metric_families(metrics.exposition().decode())}
    assert shown["gatebook_logins"].samples[0].labels == {"door": "route/v2", "outcome": "bad_credentials"}
    assert "python_info" in shown


def test_two_sets_of_metrics_never_mix_and_none_is_global() -> None:
    one, other = Metrics(), Metrics()
    one.hashing_refused()
    assert value(one, "password_hashes_refused_total") == 1
    assert value(other, "password_hashes_refused_total") == 0
    assert REGISTRY.get_sample_value("gatebook_password_hashes_refused_total") is None


def test_every_metric_is_explained() -> None:
    families = [family for family in Metrics().registry.collect() if family.name.startswith("gatebook_")]
    assert len(families) > 15
    assert all(family.documentation.endswith(".") for family in families)


async def test_the_password_workers_are_seen() -> None:
    metrics = Metrics()
    seen: list[float | None] = []
    passwords = Passwords(HashingCost(memory=8, time=1), workers=1, gauges=metrics)
    hash_now = passwords.hash_now

    def observed(password: str) -> str:
        seen.append(value(metrics, "password_hashes_in_flight"))
        return hash_now(password)

    passwords.hash_now = observed  # type: ignore[method-assign]  # looks at the gauge while a hash is under way
    async with trio.open_nursery() as nursery:
        await nursery.start(passwords.run)
        async with trio.open_nursery() as callers:
            callers.start_soon(passwords.hash, "correct horse")
            callers.start_soon(passwords.hash, "correct horse")
        nursery.cancel_scope.cancel()
    assert seen[-1] == 1
    assert (value(metrics, "password_hashes_in_flight"), value(metrics, "password_hashes_waiting")) == (0, 0)


async def test_the_app_shows_the_metrics() -> None:
    status, headers, body = await ask(metrics := Metrics(), "GET", "/metrics")
    assert status == 200
    assert headers[b"content-type"] == b"text/plain; version=0.0.4; charset=utf-8"
    assert headers[b"content-length"] == str(len(body)).encode()
    assert b"# TYPE gatebook_log_position gauge\ngatebook_log_position 0.0\n" in body
    assert body.endswith(b"\n")
    assert metrics.exposition().startswith(b"# HELP gatebook_")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("POST", "/", 404),
        ("POST", "/metrics", 405),
        ("HEAD", "/metrics", 405),
    ],
)
async def test_the_app_shows_nothing_else(method: str, path: str, status: int) -> None:
    answered, headers, body = await ask(Metrics(), method, path)
    assert answered == status
    assert (headers.get(b"allow") == b"GET") == (status == 405)
    assert b"gatebook_" not in body


async def test_the_app_takes_no_websocket() -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    await metrics_app(Metrics())({"type": "websocket", "path": "/metrics"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_the_app_behind_the_guard() -> None:
    stopping = trio.Event()
    (sock,) = bind_tcp("127.0.0.1", 0)
    host, port = sock.getsockname()
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve_http(
            metrics_app(Metrics()), sockets=[sock], stopping=stopping, task_status=task_status
        ))  # fmt: skip
        with trio.fail_after(10):
            stream = await trio.open_tcp_stream(host, port)
            await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join([chunk async for chunk in stream])
            await stream.aclose()
        stopping.set()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"gatebook_log_position 0.0" in answer
