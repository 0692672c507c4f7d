"""Reads the settings: flags before environment variables, before a TOML file, before the defaults."""

import base64
import binascii
import difflib
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from service.address import Address, parse_address, parse_network
from service.credentials.clients import CLIENT
from service.settings import SECRET_SETTINGS, VARIABLE_PREFIX, Settings, flag_of, meta_of, variable_of
from service.web.origins import is_origin

__all__ = ["CONFIG_VARIABLE", "SettingsError", "read_settings", "settings_origins"]

CONFIG_VARIABLE: Final = "GATEBOOK_CONFIG"

MASTER_KEY_BYTES: Final = 32
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_DECIMAL: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)
_TRUTHS: Final = {"true": True, "1": True, "false": False, "0": False}
_FIELDS: Final = {field.name: field for field in fields(Settings)}


class SettingsError(Exception):
    """The settings cannot be read: its text is one sentence for whoever starts gatebook, and holds no secret.

    Raised by `read_settings` alone, before anything is opened.
    """


def read_settings(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    config: str | Path | None = None,
) -> Settings:
    """Return the settings.

    `flags` holds what the command line was given by setting name (None stands for not given), `environ` the environment
    (default: this process's), `config` the path of a TOML file (default: what GATEBOOK_CONFIG names).

    Raises:
        SettingsError: an unknown name, a value of the wrong type or out of range, a file that cannot be read.
    """
    values: dict[str, object] = {}
    # Later ones win.
    for _, layer in _layers(flags, environ, config):
        values |= layer
    settings = Settings(**values)  # type: ignore[arg-type]  # each was converted to its field's type
    _check_together(settings)
    return settings


def settings_origins(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    config: str | Path | None = None,
) -> dict[str, str]:
    """Return where each setting comes from that is not left at its default; arguments and errors as `read_settings`."""
    return {name: where for where, layer in _layers(flags, environ, config) for name in layer}


def _layers(
    flags: Mapping[str, object] | None, environ: Mapping[str, str] | None, config: str | Path | None
) -> list[tuple[str, dict[str, object]]]:
    """Return the places that say something, the weakest first, each with what it says."""
    environ = os.environ if environ is None else environ
    path = config or environ.get(CONFIG_VARIABLE)
    file = [(f"the file {path}", _from_file(Path(path)))] if path else []
    return [*file, ("the environment", _from_environment(environ)), ("the command line", _from_flags(flags or {}))]


def _from_file(path: Path) -> dict[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else "it is not UTF-8"
        raise SettingsError(f"The settings file {path} cannot be read: {why}.") from None
    try:
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as fault:
        # The parser's sentence names a line and repeats at most one character of it.
        raise SettingsError(f"The settings file {path} is not TOML: {fault}.") from None
    return {name: _native(_known(name, name, str(path)), value, f"{name} in {path}") for name, value in found.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for variable in sorted(environ):
        if not variable.startswith(VARIABLE_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        name = variable.removeprefix(VARIABLE_PREFIX).lower()
        field = _known(name if variable == variable_of(name) else "", variable, "the environment")
        values[field.name] = _text(field, environ[variable], f"{variable} in the environment")
    return values


def _from_flags(flags: Mapping[str, object]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, value in flags.items():
        field = _known(name, flag_of(name), "the command line")
        if value is None:
            continue
        if name in SECRET_SETTINGS:
            raise SettingsError(
                f"{name} is a secret, and everybody on the machine can read a command line: set {variable_of(name)}."
            )
        where = f"{flag_of(name)} on the command line"
        values[name] = _text(field, value, where) if isinstance(value, str) else _native(field, value, where)
    return values


def _known(name: str, written: str, where: str) -> FieldInfo:
    field = _FIELDS.get(name)
    if field is not None:
        return field
    spellings = {
        "the environment": [*map(variable_of, _FIELDS), CONFIG_VARIABLE],
        "the command line": list(map(flag_of, _FIELDS)),
    }
    near = difflib.get_close_matches(written[:80], spellings.get(where, list(_FIELDS)), n=1)
    hint = f"; did you mean {near[0]}?" if near else "; docs/settings.md lists them."
    raise SettingsError(f"There is no setting {_quoted(written)}, found in {where}{hint}")


def _text(field: FieldInfo, text: str, where: str) -> object:
    """Convert what stands in a variable or a flag."""
    kind = get_args(field.type)[0]
    value: object = text
    if kind is int and _WHOLE.fullmatch(text):
        value = int(text)
    elif kind is float and _DECIMAL.fullmatch(text):
        value = float(text)
    elif kind is bool:
        value = _TRUTHS.get(text.lower(), text)
    elif get_origin(kind) is tuple:
        value = [item.strip() for item in text.split(",") if item.strip()]
    return _native(field, value, where)


def _native(field: FieldInfo, value: object, where: str) -> object:
    """Convert what has a type already: strictly, so no text becomes a number and no number a truth."""
    kind = get_args(field.type)[0]
    try:
        if Address in {kind, *get_args(kind)}:
            return _address(value, optional=kind is not Address)
        if field.name == "master_key":
            return _master_key(value)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(_expected(field))
        converted: object = msgspec.convert(value, field.type, dec_hook=_path)
        return _CHECKS.get(field.name, _as_it_is)(converted)
    except (msgspec.ValidationError, ValueError, TypeError) as fault:
        # msgspec's own sentences speak of types and paths; those of the parsers complete ours.
        expected = _expected(field) if isinstance(fault, msgspec.ValidationError) else str(fault)
    given = "" if field.name in SECRET_SETTINGS else f", not {_quoted(value)}"
    raise SettingsError(f"{where} must be {expected}{given}.")


def _address(value: object, *, optional: bool) -> Address | None:
    if optional and value in {"off", None}:
        return None
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError("HOST:PORT as text")  # noqa: TRY004  # becomes the one error of this module
    try:
        return parse_address(value)
    except ValueError as fault:
        raise ValueError(f"{fault}{', or off' if optional else ''}") from None


def _master_key(value: object) -> object:
    try:
        if isinstance(value, str) and len(base64.b64decode(value, validate=True)) == MASTER_KEY_BYTES:
            return value
    except (binascii.Error, ValueError):
        pass
    raise ValueError(f"base64 of {MASTER_KEY_BYTES} bytes")


def _origins(value: Any) -> object:  # noqa: ANN401 - a tuple of texts by now
    if all(map(is_origin, value)):
        return value
    raise ValueError(
        "a list of origins as browsers write them, scheme://host or scheme://host:port in lower case, without the"
        " usual port, a path or a wildcard"
    )


def _networks(value: Any) -> object:  # noqa: ANN401 - a tuple of texts by now
    try:
        for text in value:
            parse_network(text)
        return value
    except ValueError:
        raise ValueError(
            "a list of addresses and networks such as 10.0.0.7, 10.1.0.0/16 or 2001:db8::/32, and not everybody"
        ) from None


def _clients(value: Any) -> object:  # noqa: ANN401 - a tuple of texts by now
    if all(map(CLIENT.fullmatch, value)):
        return value
    raise ValueError(
        "a list of clients, each a name, a colon and the SHA-256 of its secret in 64 hexadecimal digits, such as"
        " shop:0f1e…"
    )


def _as_it_is(value: object) -> object:
    return value


_CHECKS: Final[dict[str, Callable[[Any], object]]] = {
    "trusted_origins": _origins,
    "trusted_proxies": _networks,
    "introspection_clients": _clients,
}


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, Path):
        return value
    if kind is Path and isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    raise ValueError("the path of a file")


def _expected(field: FieldInfo) -> str:
    meta, kind = meta_of(field), get_args(field.type)[0]
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    if kind is int:
        return f"a whole number from {meta.ge:,} to {meta.le:,}"
    if kind is float:
        return f"a number of more than {meta.gt:,} and at most {meta.le:,}"
    if kind is bool:
        return "true or false"
    if get_origin(kind) is tuple:
        return f"a list of {(meta.extra or {}).get('unit') or 'names'}"
    if meta.pattern is not None:
        return f"a text of at most {meta.max_length:,} characters, ASCII without spaces"
    return "the path of a file" if Path in get_args(kind) else "a text that is not empty"


def _quoted(value: object) -> str:
    """Return the value as it may stand in a sentence: one line, not long, without what moves a cursor."""
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"  # noqa: PLR2004  # as much as helps to find it


def _check_together(settings: Settings) -> None:
    if settings.master_key is not None and settings.master_key_file is not None:
        raise SettingsError(
            "Both master_key and master_key_file are set; there is one master key: leave one of them out."
        )
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise SettingsError("tls_certificate and tls_key belong together: set both, or none of them.")
    listeners = {"http": settings.http, "ws": settings.ws, "metrics": settings.metrics}
    taken: dict[Address, str] = {}
    for name, address in listeners.items():
        if address is None or address.port == 0:
            continue
        if address in taken:
            raise SettingsError(
                f"{taken[address]} and {name} are both {address}; each listener needs a port of its own."
            )
        taken[address] = name
    for name in ("http", "ws") if settings.development else ():
        address = listeners[name]
        if address is not None and not address.is_loopback:
            raise SettingsError(
                "development sends the session cookie without TLS: then http and ws listen on this machine alone"
                f" (127.0.0.1, [::1] or localhost), and {name} is {address}. Leave development out elsewhere."
            )
    if 0 < settings.session_idle_limit <= settings.session_seen_interval:
        raise SettingsError(
            f"session_idle_limit ({settings.session_idle_limit} s) must be longer than session_seen_interval"
            f" ({settings.session_seen_interval} s), or sessions that are in use would end as idle."
        )
    if settings.argon2_memory_kib < 8 * settings.argon2_parallelism:
        raise SettingsError("argon2_memory_kib must be at least eight times argon2_parallelism (RFC 9106).")
