"""What can be counted and measured, for Prometheus: a registry of its own, and the app that shows it."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from service.guards.headers import NOT_KEPT_ON_THE_WIRE

__all__ = ["Metrics", "metrics_app"]

_Scope = dict[str, Any]
_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]

# From a lookup in memory to the longest wait that a setting allows.
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024)


class Metrics:
    """All of one process. A label's value is always a word of ours, never anything that a client sent."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of_ours: dict[str, Any] = {"namespace": "gatebook", "registry": self.registry}

        self.commands = Counter(
            "commands", "Commands decided, by type and by what came of them (done, or the refusal's code).",
            ["type", "outcome"], **of_ours,
        )  # fmt: skip
        self.batch_size = Histogram("batch_commands", "Commands in one batch.", buckets=_SIZES, **of_ours)
        self.batch_seconds = Histogram(
            "batch_seconds", "Seconds from taking a batch to its commit.", buckets=_SECONDS, **of_ours
        )
        self.commands_waiting = Gauge("commands_waiting", "Commands that wait for the writer.", **of_ours)
        self.log_position = Gauge("log_position", "Position of the newest entry that this process has seen.", **of_ours)
        self.fold_failures = Counter(
            "fold_failures", "Events that a projection could not fold.", ["projection"], **of_ours
        )
        self.rebuilds = Counter(
            "rebuilds", "Rebuilds that an admin asked for, by projection and by what came of them.",
            ["projection", "outcome"], **of_ours,
        )  # fmt: skip
        self.rebuilds_running = Gauge("rebuilds_running", "Rebuilds, asked for by an admin, under way.", **of_ours)
        self.tails_open = Gauge("tails_open", "Tails that follow the book over the admin endpoint.", **of_ours)
        self.tails_refused = Counter("tails_refused", "Tails refused since there were too many.", **of_ours)
        self.tail_skipped = Counter("tail_skipped_entries", "Entries that slow tails passed by.", **of_ours)
        self.follower_lag = Gauge(
            "follower_lag_entries", "Entries that a follower has yet to take.", ["follower"], **of_ours
        )

        self.logins = Counter("logins", "Logins, by door and by what came of them.", ["door", "outcome"], **of_ours)
        self.sessions_opened = Counter("sessions_opened", "Sessions opened, by door.", ["door"], **of_ours)
        self.guests_created = Counter("guests_created", "Guests, by door.", ["door"], **of_ours)
        self.sessions_closed = Counter("sessions_closed", "Sessions closed, by reason.", ["reason"], **of_ours)
        self.expiry_closes = Counter("expiry_closes", "Sessions that the expiry task has closed.", **of_ours)

        self.sockets_holding = Gauge(
            "sockets_holding_a_session", "Open sockets that hold a session, by door.", ["door"], **of_ours
        )
        self.notifications = Counter(
            "session_end_notifications",
            "Clients to be told that their session is over, by outcome (told, gone, too_slow, failed).",
            ["outcome"], **of_ours,
        )  # fmt: skip

        self.refusals = Counter("refusals", "Refusals, by code and by door.", ["code", "door"], **of_ours)
        self.request_seconds = Histogram(
            "request_seconds", "Seconds from a request or message to its answer, by door.",
            ["door"], buckets=_SECONDS, **of_ours,
        )  # fmt: skip

        self.hashes_in_flight = Gauge("password_hashes_in_flight", "Password hashes being worked on.", **of_ours)
        self.hashes_waiting = Gauge("password_hashes_waiting", "Password hashes that wait for a worker.", **of_ours)
        self.attempts_waiting = Gauge(
            "attempts_waiting", "Attempts that wait for another one at the same account.", **of_ours
        )
        self.hashes_refused = Counter("password_hashes_refused", "Password hashes refused as overload.", **of_ours)

        self.connections = Gauge("connections_open", "Connections that are open, by listener.", ["listener"], **of_ours)
        self.connections_refused = Counter(
            "connections_refused", "Clients refused at the edge, by listener and reason.",
            ["listener", "reason"], **of_ours,
        )  # fmt: skip
        self.messages_slowed = Counter(
            "messages_slowed", "Messages that came faster than one connection may send, and were read later.",
            ["listener"], **of_ours,
        )  # fmt: skip
        self.unforwarded = Counter(
            "unforwarded", "Requests through a trusted proxy that did not say who asks, by listener and reason.",
            ["listener", "reason"], **of_ours,
        )  # fmt: skip
        self.connections_failed = Counter(
            "connections_failed", "Connections that ended by an error, by listener.", ["listener"], **of_ours
        )

        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def hashing(self, *, in_flight: int, waiting: int) -> None:
        """Take the state of the password workers: this is their `HashingGauges`."""
        self.hashes_in_flight.set(in_flight)
        self.hashes_waiting.set(waiting)

    def hashing_refused(self) -> None:
        """Count a password hash that was refused."""
        self.hashes_refused.inc()

    def exposition(self) -> bytes:
        """Return everything in Prometheus' text format, version 0.0.4."""
        return generate_latest(self.registry)


def metrics_app(metrics: Metrics) -> Callable[..., Awaitable[None]]:
    """Return the ASGI app of the metrics listener: `GET /metrics`, and nothing else."""

    async def app(scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["path"] != "/metrics":
            await _answer(send, 404, b"There is only /metrics here.\n")
        elif scope["method"] != "GET":
            await _answer(send, 405, b"/metrics takes GET only.\n", allow=b"GET")
        else:
            await _answer(send, 200, metrics.exposition(), content_type=CONTENT_TYPE_PLAIN_0_0_4)

    return app


async def _live(receive: _Receive, send: _Send) -> None:
    while True:
        phase = (await receive())["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return


async def _answer(
    send: _Send,
    status: int,
    body: bytes,
    *,
    content_type: str = "text/plain; charset=utf-8",
    allow: bytes | None = None,
) -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body)), *NOT_KEPT_ON_THE_WIRE]
    if allow is not None:
        headers.append((b"allow", allow))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
