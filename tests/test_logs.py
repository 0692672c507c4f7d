"""Log lines: one line each whatever was typed, no secrets, the libraries' lines among them."""

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from service.credentials.tokens import PresentedToken
from service.logs import configure_logs, hide_secrets, one_line

TOKEN = "42|0123456789abcdefghijABCDEFGHIJklmnopqrst"
NASTY = "x\n2026-01-01T00:00:00Z info forged\r\x1b[2J\x1b]0;title\x07\x7f\x9b\u202egnp.exe\u2028\u200b\0\ud800"

json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, ours = root.handlers[:], root.level, logging.getLogger("gatebook").level
    yield
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("gatebook").setLevel(ours)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def log_to(stream: io.StringIO, log_format: Any = "json", log_level: Any = "info") -> Any:
    configure_logs(log_format, log_level, stream)
    return structlog.get_logger("gatebook.test")


def only_line(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    assert line.isascii()
    assert line.isprintable()
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_line_of_json() -> None:
    stream = io.StringIO()
    log_to(stream).warning("batch_written", events=3, door="route/v2")
    line = only_line(stream)
    assert list(line) == ["timestamp", "level", "logger", "event", "events", "door"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert line == {
        "level": "warning", "logger": "gatebook.test", "event": "batch_written", "events": 3, "door": "route/v2",
    }  # fmt: skip


def test_a_line_for_people() -> None:
    stream = io.StringIO()
    log_to(stream, "console").info("batch written", events=3, door="route v2")
    assert re.fullmatch(
        r'\S+Z info     batch written events=3 door="route v2" logger=gatebook.test\n', stream.getvalue()
    )


@pytest.mark.parametrize(("stream", "starts"), [(io.StringIO(), "{"), (Terminal(), "2")])
def test_a_line_is_for_people_when_one_watches(stream: io.StringIO, starts: str) -> None:
    log_to(stream, "auto").info("hello")
    assert stream.getvalue().startswith(starts)


def test_colours_are_for_a_terminal_alone() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        log_to(stream, "console").error("broken")
    assert "\x1b[31m" in terminal.getvalue()
    assert "\x1b" not in pipe.getvalue()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_what_was_typed_forges_no_line_and_no_escape(log_format: str) -> None:
    stream = io.StringIO()
    log = log_to(stream, log_format)
    log.info(NASTY, username=NASTY, nested={NASTY: [NASTY]}, raw=NASTY.encode("utf-8", "surrogatepass"))
    logging.getLogger("hypercorn.error").warning("path %s", NASTY)
    lines = stream.getvalue().split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert "\\u202e" in lines[0]
    assert stream.getvalue().encode()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_an_exception_forges_no_line_either(log_format: str) -> None:
    stream = io.StringIO()
    log = log_to(stream, log_format)
    password = "correct horse"  # stands in a local variable when the exception is logged
    try:
        raise ValueError(NASTY)
    except ValueError:
        log.exception("command_failed")
    first, *rest = stream.getvalue().rstrip("\n").split("\n")
    assert "command_failed" in first
    assert password not in stream.getvalue()
    assert "ValueError: x" in stream.getvalue()
    assert all(line.startswith("    | ") and line.isprintable() for line in rest)
    assert bool(rest) == (log_format == "console")


@given(
    st.dictionaries(st.text(st.characters(), max_size=20), json_like, max_size=6), st.sampled_from(["console", "json"])
)
def test_any_event_is_one_line(event: dict[str, object], log_format: str) -> None:
    stream = io.StringIO()
    log = log_to(stream, log_format).bind(**event)
    event_text = event.get("event", "what")
    logging.getLogger("other").info("%s", event)
    log._context.pop("event", None)
    log._context.pop("exc_info", None)
    log._context.pop("stack_info", None)
    log._context.pop("positional_args", None)
    log.info(event_text)
    lines = stream.getvalue().split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    if log_format == "json":
        for line in lines[:-1]:
            json.loads(line)


class Login(Struct):
    identifier: str
    password: str
    presented: PresentedToken | None = None


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "new_password",
        "passwd",
        "old-password",
        "PASSWORD",
        "password_hash",
        "token",
        "session_token",
        "secret",
        "client_secret",
        "Authorization",
        "cookie",
        "Set-Cookie",
        "session_key",
        "sessionKey",
        "master_key",
        "credentials",
    ],
)
def test_what_has_the_name_of_a_secret_is_hidden(name: str) -> None:
    event = hide_secrets(None, "info", {"event": "x", name: "hunter2", "nested": {"list": [{name: b"hunter2"}]}})
    assert event == {"event": "x", name: "<hidden>", "nested": {"list": [{name: "<hidden>"}]}}


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"GET /x?at={TOKEN}",
        f"a {TOKEN.replace('|', '%7C')} b",
        json.dumps([TOKEN]),
        f"Authorization: Bearer {TOKEN}x",
        f"Bearer {TOKEN[3:]}",
    ],
)
def test_what_looks_like_a_token_is_hidden_wherever_it_stands(text: str) -> None:
    stream = io.StringIO()
    log = log_to(stream)
    log.info(text, path=text, thing=[text], error=ValueError(text))
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("quart.app").exception("handler %s", text)
    assert TOKEN[3:] not in stream.getvalue()
    assert stream.getvalue().count("<hidden>") >= 6


def test_a_struct_is_written_field_by_field_without_its_secrets() -> None:
    stream = io.StringIO()
    log_to(stream).info("command", command=Login("ann", "hunter2", PresentedToken(42, TOKEN[3:])))
    assert only_line(stream)["command"] == {
        "identifier": "ann", "password": "<hidden>", "presented": {"session_id": 42, "secret": "<hidden>"},
    }  # fmt: skip


def test_a_truth_about_a_secret_is_no_secret() -> None:
    assert hide_secrets(None, "info", {"password_given": True, "token": None}) == {
        "password_given": True,
        "token": None,
    }


def test_lines_are_bounded() -> None:
    stream = io.StringIO()
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    log_to(stream).info("x" * 100_000, y="y" * 100_000, many=list(range(100_000)), number=10**5_000, deep=deep)
    line = only_line(stream)
    assert len(stream.getvalue()) < 10_000
    assert line["event"].endswith("… (100,000 characters)")
    assert len(line["many"]) == 50


def test_a_value_without_a_repr_is_named_by_its_type() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError

    assert hide_secrets(None, "info", {"x": Silent()}) == {"x": "<Silent without a repr>"}


@pytest.mark.parametrize("name", ["trio.something", "hypercorn.error", "hypercorn.access", "quart.app", "anything"])
def test_the_libraries_lines_are_among_ours(name: str) -> None:
    stream = io.StringIO()
    logging.getLogger(name).addHandler(stray := logging.StreamHandler(io.StringIO()))
    log_to(stream)
    logging.getLogger(name).info("said %s", "so")
    logging.getLogger(name).removeHandler(stray)
    line = only_line(stream)
    assert (line["logger"], line["level"], line["event"]) == (name, "info", "said so")


def test_warnings_are_among_ours() -> None:
    stream = io.StringIO()
    log_to(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert only_line(stream)["logger"] == "py.warnings"


def test_levels() -> None:
    stream = io.StringIO()
    log = log_to(stream, log_level="debug")
    log.debug("ours")
    # hpack, for one, writes headers there.
    logging.getLogger("hpack.hpack").debug("authorization: …")
    assert only_line(stream)["event"] == "ours"
    stream = io.StringIO()
    log = log_to(stream, log_level="error")
    log.warning("not heard")
    logging.getLogger("quart.app").warning("not heard")
    assert stream.getvalue() == ""


def test_what_is_bound_to_the_context_is_in_the_line() -> None:
    stream = io.StringIO()
    log = log_to(stream)
    with structlog.contextvars.bound_contextvars(command_id="c1"):
        log.info("x")
    assert only_line(stream)["command_id"] == "c1"


def test_a_line_that_cannot_be_formatted_says_where_and_no_more() -> None:
    stream = io.StringIO()
    log_to(stream)
    logging.getLogger("other").info("%d", "hunter2")
    line = only_line(stream)
    assert line["event"] == "log_line_lost"
    assert line["at"].startswith("test_logs:")
    assert "hunter2" not in stream.getvalue()


def test_a_stream_that_is_gone_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    log_to(Gone()).info("hello", password="hunter2")
    assert capsys.readouterr() == ("", "")


@given(st.text(st.characters()))
def test_one_line_is_printable_and_keeps_what_is(text: str) -> None:
    assert one_line(text).isprintable()
    assert one_line(one_line(text)) == one_line(text)
    if text.isprintable():
        assert one_line(text) == text
