"""The settings: one frozen Struct, in which every bound has its name, unit, range, default and meaning.

`service.settings_sources` reads it; `python -m service.settings` prints docs/settings.md.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from msgspec import UNSET, Meta, Struct
from msgspec.structs import FieldInfo, fields

from service.address import Address, ProxyHeader
from service.credentials.reserved_names import RESERVED_NAMES

__all__ = ["SECRET_SETTINGS", "Settings", "flag_of", "meta_of", "reference", "variable_of"]

SECRET_SETTINGS: Final = frozenset({"master_key", "introspection_clients"})
"""What is shown nowhere. Of clients only digests, but one may have been given the secret itself by mistake."""
VARIABLE_PREFIX: Final = "GATEBOOK_"


def _whole(least: int, most: int, unit: str, meaning: str) -> Meta:
    return Meta(ge=least, le=most, description=meaning, extra={"unit": unit})


def _about(meaning: str, unit: str = "") -> Meta:
    return Meta(description=meaning, extra={"unit": unit})


def _name(meaning: str) -> Meta:
    return Meta(min_length=1, max_length=255, pattern=r"\A[!-~]+\Z", description=meaning, extra={"unit": ""})


_DAY: Final = 86_400
_YEAR: Final = 366 * _DAY
_MIB: Final = 2**20


class Settings(Struct, frozen=True, kw_only=True):
    """How one gatebook process behaves. The repr hides the secrets."""

    store: Annotated[str, Meta(min_length=1, description="Where the book is: `sqlite:PATH`.")] = "sqlite:gatebook.db"
    master_key: Annotated[
        str | None,
        _about("The key that wraps all other keys: 32 bytes in base64. Instead of a file, and never a flag."),
    ] = None
    master_key_file: Annotated[
        Path | None,
        _about("A file with the master key that only its owner may read. Made beside the store when nothing is said."),
    ] = None

    http: Annotated[Address, _about("Where the account API and the admin endpoint listen.")] = Address(
        "127.0.0.1", 8000
    )
    ws: Annotated[Address, _about("Where the socket doors listen.")] = Address("127.0.0.1", 8001)
    metrics: Annotated[Address | None, _about("Where /metrics listens; `off` for nowhere.")] = Address(
        "127.0.0.1", 8002
    )

    tls_certificate: Annotated[
        Path | None,
        _about("A certificate with its chain, in PEM: `http` and `ws` then speak TLS. Read anew at SIGHUP."),
    ] = None
    tls_key: Annotated[
        Path | None, _about("The key of the certificate, in PEM, in a file that not everybody may read.")
    ] = None
    hsts_seconds: Annotated[
        int,
        _whole(0, 2 * _YEAR, "s", "How long browsers that came over TLS are to come over nothing else; 0 for never."),
    ] = 365 * _DAY

    trusted_proxies: Annotated[
        tuple[str, ...],
        _about(
            "Addresses and networks of proxies in front, as `10.0.0.7` or `10.1.0.0/16`, who are believed who asks.",
            "networks",
        ),
    ] = ()
    proxy_header: Annotated[
        ProxyHeader, _about("The header in which all of them write whose address they were asked from.")
    ] = "x-forwarded-for"

    registration: Annotated[
        Literal["open", "closed"],
        _about("Whether people register themselves; when `closed`, accounts are made by `gatebook users add` alone."),
    ] = "open"

    trusted_origins: Annotated[
        tuple[str, ...],
        _about(
            "Origins whose pages may ask by cookie, read answers and open sockets as ours, as `https://app.example.org`.",
            "origins",
        ),
    ] = ()
    development: Annotated[
        bool, _about("The session cookie goes over plain HTTP too; `http` and `ws` then listen on this machine alone.")
    ] = False

    session_lifetime: Annotated[int, _whole(60, _YEAR, "s", "A session ends this long after its login.")] = _DAY
    session_idle_limit: Annotated[
        int, _whole(0, _YEAR, "s", "A session that was not seen for this long ends; 0 never ends one for that.")
    ] = 0
    session_seen_interval: Annotated[
        int, _whole(1, _YEAR, "s", "That a session was seen is recorded at most this often.")
    ] = 3_600
    sessions_per_user: Annotated[
        int, _whole(1, 10_000, "sessions", "One more login of the same user ends the oldest session.")
    ] = 100

    token_issuer: Annotated[
        str, _name("Who makes access tokens, `iss` in each: best the address of the service, `https://…`.")
    ] = "gatebook"  # noqa: S105 - a name
    token_audience: Annotated[str, _name("Whom access tokens are for, `aud` in each.")] = "gatebook"  # noqa: S105 - a name
    token_lifetime: Annotated[
        int, _whole(10, 300, "s", "An access token is good for this long, and no longer than its session.")
    ] = 300
    introspection_clients: Annotated[
        tuple[str, ...],
        _about(
            "Services that may ask what a token is worth, as `NAME:DIGEST`, the SHA-256 of a secret of 32 random bytes"
            " or more in hexadecimal digits. Never a flag.",
            "clients",
        ),
    ] = ()

    guests_per_address: Annotated[
        int,
        _whole(
            0,
            100_000,
            "guests",
            "The most guests at a time from one address; one more is refused. This machine's own has no bound.",
        ),
    ] = 200
    guests_in_all: Annotated[
        int, _whole(0, 100_000_000, "guests", "The most guests at a time, wherever from; one more is refused.")
    ] = 100_000

    batch_size: Annotated[int, _whole(1, 10_000, "commands", "The most that one transaction takes.")] = 256
    waiting_commands: Annotated[
        int, _whole(1, 1_000_000, "commands", "The most that wait for the writer; one more is refused as overload.")
    ] = 2_000
    expiry_batch: Annotated[int, _whole(1, 1_000, "sessions", "The most that one round of expiry ends.")] = 100
    clock_skew_seconds: Annotated[
        int, _whole(0, 3_600, "s", "How far the clock may be behind the book before writes are refused.")
    ] = 5
    poll_milliseconds: Annotated[
        int, _whole(1, 60_000, "ms", "How often a follower looks whether another process has written.")
    ] = 10
    read_page: Annotated[
        int, _whole(1, 100_000, "entries", "What a long read of the book takes at a time, so that it holds up nothing.")
    ] = 1_000
    list_page: Annotated[
        int, _whole(1, 1_000, "items", "A page of the admin endpoint when no number is asked for.")
    ] = 100
    audit_coalesce_seconds: Annotated[
        int, _whole(0, _DAY, "s", "Looks of one admin at one thing within this time are one event.")
    ] = 300
    max_tails: Annotated[
        int, _whole(1, 1_000, "tails", "The most that follow the book at a time; one more is refused as overload.")
    ] = 10
    tail_backlog: Annotated[
        int, _whole(1, 100_000_000, "entries", "A tail that falls further behind than this passes by what it missed.")
    ] = 10_000

    max_connections_http: Annotated[
        int, _whole(1, 1_000_000, "connections", "The most at a time; one more is turned away.")
    ] = 400
    max_connections_ws: Annotated[
        int, _whole(1, 1_000_000, "connections", "The most at a time; one more is turned away.")
    ] = 500
    connections_per_address: Annotated[
        int,
        _whole(
            1,
            1_000_000,
            "connections",
            "The most of one address at each listener; this machine and trusted proxies have no such bound.",
        ),
    ] = 100
    head_seconds: Annotated[
        int, _whole(1, 3_600, "s", "What a request's headers, a handshake, or an upgrade may take to arrive.")
    ] = 10
    body_seconds: Annotated[int, _whole(1, 3_600, "s", "What a request's body may take to arrive.")] = 30
    write_seconds: Annotated[
        int, _whole(1, 3_600, "s", "How long one write waits for a client that does not read; then it is cut.")
    ] = 30
    keep_alive_seconds: Annotated[
        int, _whole(1, 3_600, "s", "How long an HTTP connection may wait between two requests.")
    ] = 75
    body_bytes: Annotated[int, _whole(1_024, 16 * _MIB, "bytes", "The longest request body.")] = 65_536
    message_bytes: Annotated[int, _whole(1_024, 16 * _MIB, "bytes", "The longest socket message.")] = 65_536
    message_fragments: Annotated[int, _whole(1, 65_536, "frames", "The most that make up one socket message.")] = 64
    resume_seconds: Annotated[
        int, _whole(1, _DAY, "s", "A react-auth socket that has held no session for so long is closed.")
    ] = 30
    socket_idle_seconds: Annotated[
        int, _whole(1, _YEAR, "s", "A route protocol socket without a session, silent for so long, is closed.")
    ] = 1_800
    ping_seconds: Annotated[
        int, _whole(1, 3_600, "s", "A socket that was silent for so long is pinged; for as long again, it is cut.")
    ] = 30
    messages_per_second: Annotated[
        int, _whole(1, 1_000_000, "messages", "What one socket may send; more is read more slowly.")
    ] = 200
    stop_grace_seconds: Annotated[
        int, _whole(0, 3_600, "s", "How long what was accepted may take to be answered once gatebook is asked to stop.")
    ] = 10

    hashing_workers: Annotated[int, _whole(0, 1_024, "threads", "Password hashes at a time; 0 is one a core.")] = 0
    hashing_wait_seconds: Annotated[
        float,
        Meta(gt=0, le=60, description="Estimated work that may wait before one more is refused.", extra={"unit": "s"}),
    ] = 2.0
    argon2_memory_kib: Annotated[int, _whole(8, 4 * _MIB, "KiB", "Memory of one password hash.")] = 19_456
    argon2_time: Annotated[int, _whole(1, 1_000, "passes", "Passes over that memory.")] = 2
    argon2_parallelism: Annotated[int, _whole(1, 64, "lanes", "Lanes of one hash; each is a thread.")] = 1
    common_passwords_refused: Annotated[
        bool, _about("Whether passwords that are among the most common ones are refused.")
    ] = True
    reserved_names: Annotated[
        tuple[str, ...], _about("Names that nobody may take, however they are spelled; replaces the default list.")
    ] = RESERVED_NAMES

    throttle_account_failures: Annotated[
        int,
        _whole(
            1,
            10_000,
            "failures",
            "Failed attempts at one account, from one network or a device that it knows, before the next has to wait.",
        ),
    ] = 5
    throttle_address_failures: Annotated[
        int, _whole(1, 1_000_000, "failures", "Failed attempts from one address before the next has to wait.")
    ] = 100
    throttle_address_in_flight: Annotated[
        int, _whole(1, 100_000, "attempts", "Attempts from one address that may be under way at a time.")
    ] = 20
    throttle_registrations: Annotated[
        int,
        _whole(
            1,
            1_000_000,
            "registrations",
            "Registrations from one address, and names found taken, before the next has to wait.",
        ),
    ] = 20
    throttle_max_delay: Annotated[int, _whole(1, _DAY, "s", "The longest that one has to wait after failures.")] = 900
    device_days: Annotated[
        int, _whole(1, 400, "days", "A device that logged in is known to the account for so long after.")
    ] = 180

    log_format: Annotated[
        Literal["auto", "console", "json"], _about("Log lines on stderr; `auto` is console when a person watches.")
    ] = "auto"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _about("What is worth a log line.")] = "info"

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, self._shown(name)) for name in self.__struct_fields__]

    def _shown(self, name: str) -> object:
        value = getattr(self, name)
        return "<hidden>" if name in SECRET_SETTINGS and value else value


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return VARIABLE_PREFIX + name.upper()


def flag_of(name: str) -> str:
    """Return the command line's flag for a setting."""
    return "--" + name.replace("_", "-")


def meta_of(field: FieldInfo) -> Meta:
    """Return what is said about a setting: description, unit and range."""
    return next(found for found in get_args(field.type) if isinstance(found, Meta))


def reference() -> str:
    """Return docs/settings.md."""
    rows = [
        f"| `{field.name}` | `{variable_of(field.name)}` | {_flag(field)} | {_default(field)} |"
        f" {_range(field)} | {(meta_of(field).extra or {}).get('unit', '')} | {meta_of(field).description} |"
        for field in fields(Settings)
    ]
    return "\n".join([_HEADING, *rows, ""])


def _flag(field: FieldInfo) -> str:
    # Everybody on the machine can read a command line.
    return "" if field.name in SECRET_SETTINGS else f"`{flag_of(field.name)}`"


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is UNSET or default is None:
        return ""
    if isinstance(default, bool):
        return f"`{default}`".lower()
    if isinstance(default, tuple):
        return ", ".join(f"`{name}`" for name in default)
    return f"{default:,}" if isinstance(default, int | float) else f"`{default}`"


def _range(field: FieldInfo) -> str:
    meta, kind = meta_of(field), get_args(field.type)[0]
    if get_origin(kind) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(kind))
    if meta.gt is not None:
        return f"more than {meta.gt:,}, at most {meta.le:,}"
    return "" if meta.ge is None else f"{meta.ge:,} to {meta.le:,}"


_HEADING: Final = """\
# Settings

A setting comes from a flag of the command, else from its environment variable, else from a TOML file (named by
`--config` or `GATEBOOK_CONFIG`; its keys are the names below, at the top level), else it is the default. An unknown
name or a value out of range stops gatebook with a sentence that says where it stood. In a variable, the items of a list
are separated by commas, and yes or no is `true` or `false`, or `1` or `0`.

This page is made by `python -m service.settings`.

| setting | variable | flag | default | range | unit | meaning |
| --- | --- | --- | --- | --- | --- | --- |"""

if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201  # printing the page is what it is run for
