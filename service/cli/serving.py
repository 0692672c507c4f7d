"""`gatebook serve`: starts the service, and says what to try next. Every setting is a flag of it."""

from __future__ import annotations

import inspect
import shlex
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args, get_origin

from cyclopts import App, Group, Parameter
from msgspec.structs import FieldInfo, fields

from service.cli.exits import Exit
from service.cli.place import HERE, Place, address_of, settings_of
from service.cli.speech import flowing, print_line, print_object, shout
from service.settings import SECRET_SETTINGS, Settings, flag_of, meta_of

if TYPE_CHECKING:
    from service.app import Listening

EXAMPLES: Final = """\
Examples: `gatebook serve` · `gatebook serve --store sqlite:/var/lib/gatebook/gatebook.db --http 0.0.0.0:8000` ·
`gatebook serve --http 127.0.0.1:0 --ws 127.0.0.1:0 --metrics off --json`

The first start makes the store, its keys and, where no other is given, a master key beside them. SIGTERM and SIGINT
stop it gracefully, with exit code 0; a second one cuts that short. Each setting is also an environment variable and a
key of the TOML file, see docs/settings.md; the master key itself is never a flag."""

_LISTENERS: Final = ("http", "ws", "metrics")
_IN_PLACE: Final = {"store", "master_key_file"}
_LISTENING: Final = Group("Listening", sort_key=1)
_OTHERS: Final = Group("Settings", sort_key=2)


def _serve(*, place: Place = HERE, **flags: str | None) -> int:
    """Run the service until it is asked to stop."""
    import trio

    from service.app import serve as run_service
    from service.logs import configure_logs
    from service.web.cookies import IN_DEVELOPMENT

    settings = settings_of(place, flags)
    configure_logs(settings.log_format, settings.log_level)
    if settings.development:
        shout(IN_DEVELOPMENT, as_json=place.json)
    tell: Callable[[str], None] = print_line if not place.json else lambda sentence: print_object({"said": sentence})

    def said(sentence: str) -> None:
        tell(sentence)
        sys.stdout.flush()

    def ready(listening: Listening) -> None:
        if place.json:
            print_object({"listening": listening, "store": str(address_of(settings).path.resolve())})
        else:
            for line in what_next(listening, settings, place):
                print_line(line)
        sys.stdout.flush()

    trio.run(partial(run_service, settings, ready=ready, said=said))
    return Exit.DONE


def what_next(listening: Listening, settings: Settings, place: Place) -> list[str]:
    """The lines for a person once the service answers: where it is, and commands that can be typed as they stand."""
    command = " ".join([_invoked_as(), "{}", *_where(settings, place)])
    s = "" if settings.tls_certificate is None else "s"
    http = f"http{s}://{_reachable(listening.http)}"
    post = "curl -s -H 'Content-Type: application/json'"
    account = '{"username": "alice", "nickname": "Alice", "password": "a gate and a book"}'
    login = '{"identifier": "alice", "password": "a gate and a book"}'
    register = f"{post} {http}/api/register -d '{account}'"
    if settings.registration == "closed":
        register = f"echo 'a gate and a book' | {command.format('users add alice --password-stdin')}"
    return [
        f"gatebook keeps its book in {address_of(settings).path.resolve()}",
        f"  HTTP      http{s}://{listening.http}  what there is: /openapi.json",
        f"  sockets   ws{s}://{listening.ws}/react-auth, /auth/v1 and /auth/v2",
        f"  metrics   {f'http://{listening.metrics}/metrics' if listening.metrics else 'off'}",
        "",
        "Try next, in another terminal (the admin's password is asked for):",
        f"  {register}",
        f"  {post} {http}/api/session -d '{login}'",
        f"  {command.format('events')}",
        f"  {command.format('sessions list')}",
        f"  {command.format('users add keeper --level admin')}",
        f"  {command.format('projections show users 1')}",
        f"  {command.format('verify')}",
        "",
        "Ctrl-C stops it.",
    ]


def _invoked_as() -> str:
    """How this command was called, as it can be typed again from the same folder."""
    called = Path(sys.argv[0])
    if called.name != "gatebook":
        return f"{shlex.quote(sys.executable)} -m service.cli"
    on_path = shutil.which("gatebook")
    if on_path is not None and Path(on_path).resolve() == called.resolve():
        return "gatebook"
    here = Path.cwd()
    return shlex.quote(str(called.relative_to(here) if called.is_relative_to(here) else called))


def _where(settings: Settings, place: Place) -> list[str]:
    # Another terminal has another environment: what is not as by default is said, wherever it came from.
    store = None if settings.store == Settings().store else settings.store
    given = {"--store": store, "--master-key-file": settings.master_key_file, "--config": place.config}
    return [f"{flag} {shlex.quote(str(value))}" for flag, value in given.items() if value is not None]


def _reachable(address: str) -> str:
    """The address as a client on this machine types it: one that stands for all interfaces is no place to go to."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in {"0.0.0.0", "[::]", "::"} else address  # noqa: S104 - compared, not bound


def _flag(field: FieldInfo) -> inspect.Parameter:
    """The flag of one setting. It is taken as text: `read_settings` converts it, or refuses it in a sentence."""
    meta, default = meta_of(field), _shown_default(field.default)
    flag = Parameter(
        name=flag_of(field.name),
        group=_LISTENING if field.name in _LISTENERS else _OTHERS,
        metavar=_metavar(field),
        help=meta.description,
        show_default=False if default is None else lambda _: default,
    )
    annotation: Any = Annotated[str | None, flag]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _shown_default(default: object) -> str | None:
    if default is None or default in ("", ()):
        return None
    if isinstance(default, tuple):
        return "see docs/settings.md"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _metavar(field: FieldInfo) -> str:
    kind = get_args(field.type)[0]
    if field.name in _LISTENERS:
        return "HOST:PORT|off" if field.name == "metrics" else "HOST:PORT"
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    if kind is bool:
        return "true|false"
    if get_origin(kind) is tuple:
        item = ((meta_of(field).extra or {}).get("unit") or "names").removesuffix("s").upper()
        return f"{item},{item},…"
    return str((meta_of(field).extra or {}).get("unit") or "value").upper()


def _with_flags(command: Callable[..., int]) -> Callable[..., int]:
    """The command, whose signature names a flag for each setting: they are read, and refused, by `read_settings`."""
    flags = [_flag(field) for field in fields(Settings) if field.name not in _IN_PLACE | SECRET_SETTINGS]
    own = inspect.signature(command).parameters["place"].replace(annotation=Place)
    vars(command)["__signature__"] = inspect.Signature([*flags, own])
    return command


serve: Final = App(name="serve", default_command=_with_flags(_serve), help_epilogue=flowing(EXAMPLES))
